//! Ed25519 (RFC 8032) for many signatures of one key: the key is read once, and a list can be checked at once.
//!
//! Valid means what `verify_strict` means, also for lists. A plain batch equation says less: it is blind to
//! components of small order that cancel, so that one holder of the key can make signatures which pass together and
//! fail alone. Here the equation is only asked of points that lie in the subgroup of prime order, in which a list
//! passes exactly if each of it does. Draws no random number itself: the caller hands a seed in.

use crate::keys::EddsaSignature;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity, IsIdentity, VartimeMultiscalarMul};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha512};

/// Random subsets whose sums are tested for components of small order. Each misses one with a chance of at most a
/// half, all together with one of at most 2^-64, and nobody can try twice: the seed is drawn after the list is known.
const SUBSETS: usize = 64;

/// Points whose subset sums are tabulated together: with five, making the table costs a third of using it.
const BLOCK: usize = 5;

/// Seed of the random choices in [`StrictKey::verify_all`]. Nobody who made the signatures may know it beforehand.
pub type BatchSeed = [u8; 32];

/// A key that was read and is not weak.
#[derive(Clone, Debug)]
pub struct StrictKey {
    key: VerifyingKey,
    point: EdwardsPoint,
    /// The key lies in the subgroup of prime order, as every honestly made one does.
    in_prime_subgroup: bool,
}

impl StrictKey {
    /// Reads a key. `None`: the bytes are no point, or one of small order, under which a signature proves nothing.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Option<StrictKey> {
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        let point = CompressedEdwardsY(*bytes).decompress()?;
        (!key.is_weak()).then(|| StrictKey {
            key,
            point,
            in_prime_subgroup: point.is_torsion_free(),
        })
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &EddsaSignature) -> bool {
        let signature = Signature::from_bytes(signature.as_bytes());
        self.key.verify_strict(message, &signature).is_ok()
    }

    /// Whether all signatures are this key's, each over its message. `false` says that one at least is not, or that
    /// the list cannot be checked at once: [`StrictKey::verify`] then tells which.
    #[must_use]
    pub fn verify_all(&self, signed: &[(&[u8], &EddsaSignature)], seed: &BatchSeed) -> bool {
        if !self.in_prime_subgroup {
            return false;
        }
        let Some(read) = signed
            .iter()
            .map(|(message, signature)| self.read(message, signature))
            .collect::<Option<Vec<Read>>>()
        else {
            return false;
        };
        let mut transcript = Sha512::new_with_prefix(seed);
        for one in &read {
            transcript.update(one.challenge.as_bytes());
            transcript.update(one.s.as_bytes());
        }
        let choices = Choices::new(transcript.finalize().into(), read.len());
        in_prime_subgroup(&read, &choices.subsets) && self.equation(&read, &choices.factors)
    }

    fn read(&self, message: &[u8], signature: &EddsaSignature) -> Option<Read> {
        let (r, s) = signature.as_bytes().split_at(32);
        let r: [u8; 32] = r.try_into().ok()?;
        let s = Option::from(Scalar::from_canonical_bytes(s.try_into().ok()?))?;
        if !is_canonical_y(&r) {
            return None;
        }
        let point = CompressedEdwardsY(r).decompress()?;
        if point.is_small_order() {
            return None;
        }
        let digest = Sha512::new_with_prefix(r)
            .chain_update(self.key.as_bytes())
            .chain_update(message)
            .finalize();
        Some(Read {
            point,
            s,
            challenge: Scalar::from_bytes_mod_order_wide(&digest.into()),
        })
    }

    /// sum z R + (sum z k) A = (sum z s) B, for random z.
    fn equation(&self, read: &[Read], factors: &[Scalar]) -> bool {
        let mut of_key = Scalar::ZERO;
        let mut of_base = Scalar::ZERO;
        for (one, z) in read.iter().zip(factors) {
            of_key += z * one.challenge;
            of_base -= z * one.s;
        }
        let base = curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
        EdwardsPoint::vartime_multiscalar_mul(
            factors.iter().chain([&of_key, &of_base]),
            read.iter().map(|one| &one.point).chain([&self.point, &base]),
        )
        .is_identity()
    }
}

/// A signature whose form is right.
struct Read {
    point: EdwardsPoint,
    s: Scalar,
    challenge: Scalar,
}

/// Whether the y coordinate is below the field's prime 2^255 - 19. Points with x = 0, which have two encodings too,
/// are of small order and refused as such.
fn is_canonical_y(r: &[u8; 32]) -> bool {
    !(r[31] & 0x7f == 0x7f && r[1..31].iter().all(|byte| *byte == 0xff) && r[0] >= 0xed)
}

/// Random choices, unforeseeable to whoever made the signatures.
struct Choices {
    /// Factors of the equation, 128 bits each.
    factors: Vec<Scalar>,
    /// Of each signature, in which subsets it is.
    subsets: Vec<u64>,
}

impl Choices {
    fn new(seed: [u8; 64], count: usize) -> Choices {
        let drawn = |number: usize| -> [u8; 64] {
            let number = u64::try_from(number).expect("a list in memory is shorter than 2^64");
            Sha512::new_with_prefix(seed)
                .chain_update(number.to_le_bytes())
                .finalize()
                .into()
        };
        let mut choices = Choices {
            factors: Vec::with_capacity(count),
            subsets: Vec::with_capacity(count),
        };
        for number in 0..count {
            let random = drawn(number);
            let (factor, subsets) = random.split_at(16);
            let mut low = [0; 16];
            low.copy_from_slice(factor);
            choices.factors.push(Scalar::from(u128::from_le_bytes(low)));
            let mut bits = [0; 8];
            bits.copy_from_slice(&subsets[..8]);
            choices.subsets.push(u64::from_le_bytes(bits));
        }
        choices
    }
}

/// Whether all points lie in the subgroup of prime order: sums over random subsets do. The points themselves would
/// cost a multiplication each.
fn in_prime_subgroup(read: &[Read], subsets: &[u64]) -> bool {
    let mut sums = [EdwardsPoint::identity(); SUBSETS];
    for (points, subsets) in read.chunks(BLOCK).zip(subsets.chunks(BLOCK)) {
        // table[i]: the sum of those points of the block whose bit is set in i.
        let mut table = Vec::with_capacity(1 << BLOCK);
        table.push(EdwardsPoint::identity());
        for one in points {
            for index in 0..table.len() {
                table.push(table[index] + one.point);
            }
        }
        for (subset, sum) in sums.iter_mut().enumerate() {
            let index = subsets.iter().rev().fold(0, |index, bits| {
                (index << 1) | usize::from((bits >> subset) & 1 == 1)
            });
            *sum += table[index];
        }
    }
    // l P = 0, as (l - 1) P + P: a scalar is a number below l.
    sums.iter().all(|sum| {
        let all_but_one =
            EdwardsPoint::vartime_double_scalar_mul_basepoint(&-Scalar::ONE, sum, &Scalar::ZERO);
        (all_but_one + sum).is_identity()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::keys::EddsaPrivateKey;
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};

    fn messages(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|n| format!("message {n}").into_bytes()).collect()
    }

    fn key(n: u8) -> (EddsaPrivateKey, StrictKey) {
        let private = EddsaPrivateKey::from_bytes([n; 32]);
        let public = StrictKey::new(&private.public_bytes()).unwrap();
        (private, public)
    }

    fn pairs<'a>(
        messages: &'a [Vec<u8>],
        signatures: &'a [EddsaSignature],
    ) -> Vec<(&'a [u8], &'a EddsaSignature)> {
        messages.iter().map(Vec::as_slice).zip(signatures).collect()
    }

    /// A signature by the holder of the secret `a` whose R has a component of small order: the challenge is that of
    /// the very bytes, so that s B = R' + k A holds for the rest of R.
    fn with_torsion(a: Scalar, torsion: EdwardsPoint, nonce: u64, message: &[u8]) -> EddsaSignature {
        let public = (ED25519_BASEPOINT_POINT * a).compress();
        let nonce = Scalar::from(nonce);
        let r = (ED25519_BASEPOINT_POINT * nonce + torsion).compress();
        let digest = Sha512::new_with_prefix(r.as_bytes())
            .chain_update(public.as_bytes())
            .chain_update(message)
            .finalize();
        let s = nonce + Scalar::from_bytes_mod_order_wide(&digest.into()) * a;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(r.as_bytes());
        bytes[32..].copy_from_slice(s.as_bytes());
        EddsaSignature::from_bytes(bytes)
    }

    #[test]
    fn a_list_passes_if_each_of_it_does() {
        let (private, public) = key(7);
        for count in [0, 1, 2, 4, 5, 6, 99, 300] {
            let messages = messages(count);
            let mut signatures: Vec<_> = messages.iter().map(|m| private.sign(m)).collect();
            assert!(
                public.verify_all(&pairs(&messages, &signatures), &[1; 32]),
                "{count}"
            );
            for at in [0, count / 2, count.saturating_sub(1)] {
                let Some(right) = signatures.get(at).copied() else {
                    continue;
                };
                for byte in [0, 31, 32, 63] {
                    let mut wrong = *right.as_bytes();
                    wrong[byte] ^= 1;
                    signatures[at] = EddsaSignature::from_bytes(wrong);
                    assert!(!public.verify(&messages[at], &signatures[at]));
                    assert!(
                        !public.verify_all(&pairs(&messages, &signatures), &[1; 32]),
                        "{count} {at} {byte}"
                    );
                }
                signatures[at] = right;
            }
        }
        let messages = messages(2);
        let mut swapped: Vec<_> = messages.iter().map(|m| private.sign(m)).collect();
        swapped.swap(0, 1);
        assert!(!public.verify_all(&pairs(&messages, &swapped), &[1; 32]));
    }

    /// What the batch equation alone says of these, without the test for small order: the trap that this module is
    /// built around.
    fn plain_batch_passes(public: &StrictKey, signed: &[(&[u8], &EddsaSignature)], seed: u8) -> bool {
        let read: Vec<Read> = signed.iter().map(|(m, s)| public.read(m, s).unwrap()).collect();
        let choices = Choices::new([seed; 64], read.len());
        public.equation(&read, &choices.factors)
    }

    #[test]
    fn forgeries_of_small_order_that_a_plain_batch_accepts_are_refused() {
        let a = Scalar::from(123_456_789_u64);
        let public = StrictKey::new((ED25519_BASEPOINT_POINT * a).compress().as_bytes()).unwrap();
        let messages = messages(2);
        for torsion in EIGHT_TORSION.iter().skip(1) {
            let forged: Vec<_> = messages
                .iter()
                .zip([11, 12])
                .map(|(m, nonce)| with_torsion(a, *torsion, nonce, m))
                .collect();
            let signed = pairs(&messages, &forged);
            assert!(
                signed.iter().all(|(m, s)| !public.verify(m, s)),
                "strict refuses them"
            );
            let accepted = (0..=255)
                .filter(|seed| plain_batch_passes(&public, &signed, *seed))
                .count();
            assert!(accepted > 0, "a plain batch accepts them now and then");
            for seed in 0..64 {
                assert!(!public.verify_all(&signed, &[seed; 32]));
                assert!(!public.verify_all(&signed[..1], &[seed; 32]));
            }
        }
    }

    #[test]
    fn a_key_with_a_small_component_is_never_checked_by_lists() {
        let a = Scalar::from(5_u64);
        let mixed = ED25519_BASEPOINT_POINT * a + EIGHT_TORSION[1];
        let public = StrictKey::new(mixed.compress().as_bytes()).unwrap();
        assert!(!public.verify_all(&[], &[0; 32]));
    }

    #[test]
    fn weak_keys_and_odd_encodings_are_refused() {
        for torsion in EIGHT_TORSION {
            assert!(StrictKey::new(torsion.compress().as_bytes()).is_none());
        }
        let (private, public) = key(9);
        let right = private.sign(b"x");
        // R of small order, with s = k a: the equation holds and strict refuses.
        let a = Scalar::from(77_u64);
        let known = StrictKey::new((ED25519_BASEPOINT_POINT * a).compress().as_bytes()).unwrap();
        for torsion in EIGHT_TORSION {
            let small = with_torsion(a, torsion, 0, b"x");
            assert!(!known.verify(b"x", &small) && !known.verify_all(&[(b"x", &small)], &[3; 32]));
        }
        // s + l fits the equation too.
        let mut carry = 0_u16;
        let mut beyond = *right.as_bytes();
        for (byte, of_l) in beyond[32..].iter_mut().zip(l_bytes()) {
            let sum = u16::from(*byte) + u16::from(of_l) + carry;
            *byte = u8::try_from(sum & 0xff).unwrap();
            carry = sum >> 8;
        }
        let beyond = EddsaSignature::from_bytes(beyond);
        assert!(!public.verify(b"x", &beyond) && !public.verify_all(&[(b"x", &beyond)], &[3; 32]));
        // y = p + 3 is a second name of y = 3.
        for low in 0xed..=0xff_u8 {
            let mut odd = [0xff; 32];
            odd[0] = low;
            odd[31] = 0x7f;
            assert!(!is_canonical_y(&odd));
            odd[31] = 0xff;
            assert!(!is_canonical_y(&odd));
        }
        let mut last = [0xff; 32];
        (last[0], last[31]) = (0xec, 0x7f);
        assert!(is_canonical_y(&last));
    }

    /// The group's order: one more than the greatest scalar.
    fn l_bytes() -> [u8; 32] {
        let mut bytes = *(-Scalar::ONE).as_bytes();
        bytes[0] += 1;
        bytes
    }
}
