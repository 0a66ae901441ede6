//! A `taler://` URI as a QR code that stands in a page: one path, no image and no further request.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code: four are what the specification (ISO/IEC 18004) demands.
const QUIET: usize = 4;

/// A code to be drawn.
pub(super) struct Qr {
    /// Modules of a side, light border included.
    pub(super) side: usize,
    /// The dark modules as an SVG path, runs of a row in one.
    pub(super) path: String,
}

impl Qr {
    /// `None`: the text is longer than any code holds, some 2,300 bytes.
    pub(super) fn of(text: &str) -> Option<Qr> {
        // A quarter more than the lowest level survives reflections on a screen, at hardly more modules.
        let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
        let width = code.width();
        let mut path = String::new();
        for (y, row) in code.to_colors().chunks(width).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|a, b| a == b) {
                if run[0] == Color::Dark {
                    let (left, top, long) = (x + QUIET, y + QUIET, run.len());
                    write!(path, "M{left} {top}h{long}v1h-{long}z").expect("a String takes all");
                }
                x += run.len();
            }
        }
        Some(Qr {
            side: width + 2 * QUIET,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Draws the path, as a browser would, and has a program read it that shares no code with the one that made it.
    fn read(qr: &Qr) -> String {
        let scale = 4;
        let mut dark = vec![false; qr.side * qr.side];
        for run in qr.path.split_terminator('z') {
            let (place, run) = run.strip_prefix('M').unwrap().split_once('h').unwrap();
            let (x, y) = place.split_once(' ').unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            let (long, back) = run.split_once("v1h-").unwrap();
            assert_eq!(long, back);
            let start = y * qr.side + x;
            dark[start..start + long.parse::<usize>().unwrap()].fill(true);
        }
        let side = qr.side * scale;
        let shade = |x: usize, y: usize| {
            if dark[y / scale * qr.side + x / scale] {
                0
            } else {
                255
            }
        };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, shade);
        let found = image.detect_grids();
        assert_eq!(found.len(), 1);
        found[0].decode().unwrap().1
    }

    #[test]
    fn what_is_drawn_is_read_again() {
        let long = format!(
            "taler://pay/shop.example/instances/{}/o/?c=91JPRV",
            "x".repeat(700)
        );
        for uri in [
            "taler://pay/shop.example/2026.325-A/?c=91JPRV3F5GG4EKJN41A62V35E8",
            "taler+http://refund/127.0.0.1:9966/o/",
            long.as_str(),
        ] {
            assert_eq!(read(&Qr::of(uri).unwrap()), uri);
        }
        assert!(Qr::of(&"x".repeat(3000)).is_none());
    }
}
