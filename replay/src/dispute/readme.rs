//! `README.txt` of a dispute file: what each file is, and how to check it with the program and by hand.

use super::report::DisputeReport;

/// The text.
pub(crate) fn text(report: &DisputeReport) -> String {
    let (order, ledger) = (&report.order, &report.ledger);
    let example = report.timeline.first().map_or(1, |event| event.seq);
    let (seq, index) = (example, example.saturating_sub(1));
    let prefix = "This file tells what the ledger";
    format!(
        "{prefix} {origin}\nrecorded of the order {instance}/{id}, with what is needed to check it.\n\n\
What is in it\n\
-------------\n\
report.html             the story for people: open it in a browser, or print it\n\
report.json             the same as data\n\
refunds.csv             each permission to refund, one a line, for spreadsheets\n\
checkpoint              the signed tree of all events of the ledger, as a C2SP checkpoint\n\
events/SEQ.json         the sealed bytes of event SEQ, exactly as recorded\n\
events/SEQ.sig          their Ed25519 signature, 64 bytes\n\
attachments/SEQ-NAME    bytes behind event SEQ: terms, body, reply, reason\n\
attachments/SEQ-NAME.salt        32 bytes, hashed before them\n\
attachments/SEQ-NAME.redacted    instead: the exporter left them out (always so of `keys`, which the event repeats)\n\
attachments/SEQ-NAME.erased      instead: the ledger does not have them any more\n\
proofs/SEQ.tlog-proof   that event SEQ is in the checkpoint's tree, as a C2SP tlog-proof\n\n\
Check it with the program\n\
-------------------------\n\
    quittance-replay verify-bundle FILE.zip --ledger-key VKEY\n\n\
VKEY is the ledger's event key. Get it from where the shop published it, not from this file, which says\n\
    {event_key}\n\n\
Check it by hand\n\
----------------\n\
b3sum is the program of BLAKE3. It prints hexadecimal; events name digests in Crockford's base32.\n\
    digest of an event        b3sum --derive-key 'quittance 2026-11-21 event v1' events/{seq}.json\n\
    digest of an attachment   cat attachments/SEQ-NAME.salt attachments/SEQ-NAME |\n\
                              b3sum --derive-key 'quittance 2026-11-21 attachment v1'\n\
    signature of an event     Ed25519 by the event key over \"quittance/event/v1\\n\", then events/{seq}.json\n\
    leaf of an event          SHA-256 of a zero byte, then events/{seq}.json, then events/{seq}.sig\n\
    its place in the tree     leaf {index}, led to the root by proofs/{seq}.tlog-proof as RFC 6962 has it\n\
    the checkpoint            a signed note by the key {checkpoint_key}\n\n\
What it shows, and what it cannot\n\
---------------------------------\n\
Every event in it was signed by the ledger's key and stands in the ledger at its number. Every attachment in it is\n\
what was sealed. Confirmations of refunds are the exchange's own signatures. Events marked as claimed are the\n\
shop's word alone. That no event of the order was left out of this file cannot be seen from this file: the numbers\n\
of permissions, and the event that each answer rests on, must fit, which hinders most omissions, but not one at the end. Who has\n\
the ledger can see it: quittance-replay verify LEDGER. What `audit` in report.json says of the whole ledger is the\n\
exporter's word.\n",
        origin = ledger.origin,
        instance = order.instance,
        id = order.id,
        event_key = ledger.event_key,
        checkpoint_key = ledger.checkpoint_key,
    )
}
