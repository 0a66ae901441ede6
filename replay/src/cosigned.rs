//! Cosignatures that the ledger keeps beside its checkpoints: each must be the named key's word on the checkpoint of that
//! size. What a witness's key is worth, its owner's name tells and not the ledger: an auditor brings the keys that he
//! knows. Specification: C2SP tlog-cosignature.

use std::collections::BTreeMap;

use quittance_events::copy::{Copy, CopyError};
use quittance_tlog::{CosignerKey, Note};

use crate::findings::{Draft, Findings};
use crate::report::Witness;
use crate::rules;

/// Checks all cosignatures. `pinned`: keys that the auditor brought.
pub(crate) fn check(
    copy: &Copy,
    pinned: &[CosignerKey],
    findings: &mut Findings,
) -> Result<Vec<Witness>, CopyError> {
    let mut latest: BTreeMap<String, (u64, u64)> =
        pinned.iter().map(|key| (key.to_string(), (0, 0))).collect();
    let mut damage = None;
    copy.walk_cosignatures_from(i64::MIN, |size, vkey, line| {
        match judge(copy, size, &vkey, &line) {
            Err(error) => {
                damage = Some(error);
                return false;
            }
            Ok(Ok(time_s)) => {
                latest.insert(vkey, (u64::try_from(size).unwrap_or(0), time_s));
            }
            Ok(Err(why)) => {
                let seq = u64::try_from(size).unwrap_or(0);
                let text = format!("the cosignature of {vkey} for {size} events: {why}");
                let cause = findings.place_up_to(seq);
                findings.add(Draft::new(&rules::LOG_COSIGNATURE, seq, text), cause);
            }
        }
        true
    })?;
    if let Some(error) = damage {
        return Err(error);
    }
    let witness = |(vkey, (size, time_s)): (String, (u64, u64))| Witness {
        pinned: pinned.iter().any(|key| key.to_string() == vkey),
        vkey,
        size,
        time_s,
    };
    Ok(latest.into_iter().map(witness).collect())
}

/// The time that the witness says, in seconds since 1970, or what is wrong.
fn judge(copy: &Copy, size: i64, vkey: &str, line: &str) -> Result<Result<u64, String>, CopyError> {
    let Ok(key) = vkey.parse::<CosignerKey>() else {
        return Ok(Err("the key is no witness's key".into()));
    };
    let checkpoint = copy.checkpoint_below(size.saturating_add(1))?;
    let Some((_, note)) = checkpoint.filter(|(at, _)| *at == size) else {
        return Ok(Err("there is no checkpoint of that size".into()));
    };
    let with_line = Note::parse(&format!("{note}{line}\n"));
    Ok(with_line
        .and_then(|note| key.cosigned_at(&note))
        .map_err(|error| error.to_string()))
}
