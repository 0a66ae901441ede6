//! Bodies of requests: read no longer and no slower than the limits say, and unpacked where a client has packed them, as
//! shop plugins do with long orders. What they say is the endpoints' matter. Specification: RFC 9110, 8.4.1.

use std::io::Read;
use std::pin::pin;

use bytes::Buf;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use futures_util::{Stream, StreamExt};
use quittance_taler::ErrorCode;
use tokio::sync::OwnedSemaphorePermit;
use warp::http::{HeaderMap, header};

use crate::admission::Admission;
use crate::limits::BODY_MAX;
use crate::refusal::Refusal;

/// A body, with its place among the large ones where it needs one.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) large: Option<OwnedSemaphorePermit>,
}

/// How a body is packed.
#[derive(Clone, Copy)]
enum Packed {
    Not,
    Gzip,
    Zlib,
}

fn too_long() -> Refusal {
    Refusal::new(ErrorCode::GenericUploadExceedsLimit).detail(format!("at most {BODY_MAX} bytes"))
}

impl Packed {
    fn read(headers: &HeaderMap) -> Result<Packed, Refusal> {
        let given: Vec<_> = headers.get_all(header::CONTENT_ENCODING).iter().collect();
        let given = match given.as_slice() {
            [] => return Ok(Packed::Not),
            [one] => one.to_str().map(str::to_ascii_lowercase),
            _ => return Err(Self::unknown()),
        };
        match given.as_deref() {
            Ok("identity" | "") => Ok(Packed::Not),
            Ok("gzip" | "x-gzip") => Ok(Packed::Gzip),
            Ok("deflate") => Ok(Packed::Zlib),
            _ => Err(Self::unknown()),
        }
    }

    fn unknown() -> Refusal {
        Refusal::new(ErrorCode::GenericCompressionInvalid).detail("Content-Encoding is gzip, deflate or none")
    }

    /// A body as it was before it was packed, which may be no longer than one that was not: a few bytes can be packed
    /// for gigabytes.
    fn unpack(self, bytes: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let packed: Box<dyn Read + '_> = match self {
            Packed::Not => return Ok(bytes),
            Packed::Gzip => Box::new(MultiGzDecoder::new(bytes.as_slice())),
            Packed::Zlib => Box::new(ZlibDecoder::new(bytes.as_slice())),
        };
        let mut unpacked = Vec::new();
        let longest = u64::try_from(BODY_MAX).expect("a limit is a small number");
        let read = packed.take(longest + 1).read_to_end(&mut unpacked);
        read.map_err(|_| Refusal::new(ErrorCode::GenericCompressionInvalid))?;
        if unpacked.len() > BODY_MAX {
            return Err(too_long());
        }
        Ok(unpacked)
    }
}

/// Reads the body. A packed one of the public needs a place among the large ones: what it comes to is not known before.
pub(super) async fn read(
    admission: &Admission,
    private: bool,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Received, Refusal> {
    let bounds = &admission.bounds;
    let packed = Packed::read(headers)?;
    let told = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| usize::try_from(told).is_ok_and(|told| told > BODY_MAX)) {
        return Err(too_long());
    }
    let collect = async {
        let mut body = pin!(body);
        let (mut bytes, mut large) = (Vec::new(), None);
        while let Some(chunk) = body.next().await {
            let mut chunk = chunk
                .map_err(|_| Refusal::new(ErrorCode::GenericJsonInvalid).detail("the body broke off"))?;
            if bytes.len() + chunk.remaining() > BODY_MAX {
                return Err(too_long());
            }
            let is_large =
                bytes.len() + chunk.remaining() > bounds.small_body || !matches!(packed, Packed::Not);
            if !private && large.is_none() && is_large {
                large = Some(admission.large_body()?);
            }
            while chunk.has_remaining() {
                let part = chunk.chunk();
                bytes.extend_from_slice(part);
                let taken = part.len();
                chunk.advance(taken);
            }
        }
        let bytes = packed.unpack(bytes)?;
        Ok(Received { bytes, large })
    };
    tokio::time::timeout(bounds.body_time, collect)
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::new(ErrorCode::GenericJsonInvalid).detail("the body came too slowly"))
        })
}
