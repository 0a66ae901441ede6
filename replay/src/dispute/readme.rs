//! `README.txt` of a dispute file: what each file is, and how to check it with the program and by hand.

use super::report::DisputeReport;

/// The text.
pub(crate) fn text(report: &DisputeReport) -> String {
    let first = report.timeline.first().map_or(1, |event| event.seq);
    format!(
        r#"This file tells what the ledger {origin}
recorded of the order {instance}/{id}, with what is needed to check it.

What is in it
-------------
report.html                      the story for people: open it in a browser, or print it
report.json                      the same as data
refunds.csv                      each permission to refund, one a line, for spreadsheets
checkpoint                       the signed tree of all events of the ledger (C2SP checkpoint)
events/SEQ.json                  the sealed bytes of event SEQ, exactly as recorded
events/SEQ.sig                   their Ed25519 signature, 64 bytes
attachments/SEQ-NAME             bytes behind event SEQ: terms, body, reply, reason, account
attachments/SEQ-NAME.salt        32 bytes, hashed before them
attachments/SEQ-NAME.redacted    instead: the exporter left them out (always of "keys", whose
                                 content the event repeats)
attachments/SEQ-NAME.erased      instead: the ledger does not have them any more
proofs/SEQ.tlog-proof            that event SEQ is in the checkpoint's tree (C2SP tlog-proof)

Check it with the program
-------------------------
    quittance-replay verify-bundle FILE.zip --ledger-key VKEY

VKEY is the ledger's event key. Get it from where the shop published it, not from this file,
which says that the first one was
    {event_key}
A key that an event of kind ledger_key_rotated puts into force later is taken as well.

Check it by hand
----------------
b3sum is the program of BLAKE3. It prints hexadecimal; events name digests in Crockford's base32.

digest of an event       b3sum --derive-key 'quittance 2026-11-21 event v1' events/{seq}.json
digest of an attachment  cat attachments/SEQ-NAME.salt attachments/SEQ-NAME |
                             b3sum --derive-key 'quittance 2026-11-21 attachment v1'
signature of an event    Ed25519 by the event key over "quittance/event/v1\n" and then events/{seq}.json;
                         from a ledger_key_rotated of role "event" on, by the key that it names
leaf of an event         SHA-256 of a zero byte, then events/{seq}.json, then events/{seq}.sig
its place in the tree    leaf {index}, led to the root by proofs/{seq}.tlog-proof as in RFC 6962
the checkpoint           a signed note by the key that event 1 names, or the last ledger_key_rotated of
                         role "checkpoint" that it covers:
    {checkpoint_key}

What it shows where the check passes, and what it cannot show
-------------------------------------------------------------
Each event in it was signed by the ledger's key and stands in the ledger at its number. Each
attachment in it is what was sealed. What is marked as proven rests on the signature of an
exchange, of a customer's coin, or of the merchant against himself. What is marked as claimed is
the shop's word alone.

That no event of the order was left out cannot be seen from this file: permissions are numbered,
and each answer names the event that it rests on, which shows most omissions, but none at the end.
Who has the ledger can see it: quittance-replay verify LEDGER. What "audit" in report.json says of
the rest of the ledger is the word of whoever made this file.
"#,
        origin = report.ledger.origin,
        instance = report.order.instance,
        id = report.order.id,
        event_key = report.ledger.event_key,
        checkpoint_key = report.ledger.checkpoint_key,
        seq = first,
        index = first.saturating_sub(1),
    )
}
