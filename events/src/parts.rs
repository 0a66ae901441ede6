//! Long lists: one decision may name more coins than one event holds. Cutting it into parts keeps every leaf below
//! its bound; the parts stand side by side in one commit and are judged as one.

use crate::event::Facts;
use crate::facts::{LIST_MAX, Part};

/// Cuts facts whose list is too long; all others come back alone and without a part number.
#[must_use]
pub(crate) fn into_parts(facts: Facts) -> Vec<Facts> {
    macro_rules! cut {
        ($f:ident, $list:ident) => {
            match chunks(&$f.$list) {
                None => vec![$f.into()],
                Some(chunks) => chunks
                    .into_iter()
                    .map(|(part, list)| {
                        let mut one = $f.clone();
                        one.$list = list;
                        one.part = Some(part);
                        one.into()
                    })
                    .collect(),
            }
        };
    }
    match facts {
        Facts::PaymentCompleted(f) => cut!(f, coins),
        Facts::RefundCarriedIn(f) => cut!(f, rows),
        Facts::RefundApproved(f) => cut!(f, rows),
        Facts::RefundRequested(f) => cut!(f, rows),
        Facts::AbortRequested(f) => cut!(f, coins),
        Facts::AbortExtended(f) => cut!(f, coins),
        Facts::AbortRefused(f) => cut!(f, coins),
        Facts::AbortAnswered(f) => cut!(f, coins),
        Facts::DepositRequested(f) => cut!(f, coins),
        Facts::RefundAnswered(f) => match f.rows.as_deref().and_then(chunks) {
            None => vec![f.into()],
            Some(chunks) => chunks
                .into_iter()
                .map(|(part, rows)| {
                    let mut one = f.clone();
                    one.rows = Some(rows);
                    one.part = Some(part);
                    one.into()
                })
                .collect(),
        },
        other => vec![other],
    }
}

fn chunks<T: Clone>(list: &[T]) -> Option<Vec<(Part, Vec<T>)>> {
    if list.len() <= LIST_MAX {
        return None;
    }
    let count = |n: usize| u32::try_from(n).expect("a list is bounded by a request's size");
    let parts = count(list.len().div_ceil(LIST_MAX));
    Some(
        list.chunks(LIST_MAX)
            .zip(1..)
            .map(|(chunk, i)| (Part(i, parts), chunk.to_vec()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::PermissionName;
    use crate::facts::RefundRequested;
    use crate::ids::RefundId;
    use quittance_taler::CoinPub;

    #[test]
    fn a_list_is_cut_at_two_hundred_and_keeps_its_order() {
        let row = |n: u8| PermissionName {
            coin_pub: CoinPub::from_bytes([n; 32]),
            rtransaction_id: RefundId::ABORT,
        };
        let rows: Vec<_> = (0..=255).chain(0..=144).map(row).collect();
        for (len, expected) in [
            (1, vec![1]),
            (200, vec![200]),
            (201, vec![200, 1]),
            (401, vec![200, 200, 1]),
        ] {
            let facts = RefundRequested {
                rows: rows[..len].to_vec(),
                part: None,
            };
            let parts = into_parts(facts.into());
            let mut joined = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                let Facts::RefundRequested(part) = part else {
                    panic!("another kind")
                };
                assert_eq!(part.rows.len(), expected[index]);
                let number = u32::try_from(index + 1)
                    .ok()
                    .zip(u32::try_from(expected.len()).ok());
                let wanted = number.filter(|_| expected.len() > 1).map(|(i, n)| Part(i, n));
                assert_eq!(part.part, wanted);
                joined.extend(part.rows.clone());
            }
            assert_eq!(joined, rows[..len]);
        }
    }
}
