//! Asks witnesses to cosign checkpoints: other people's machines, each of which remembers one history of this ledger
//! and signs no other. One task per witness, off the way of any wallet; a witness that is down harms nothing and is
//! reported once. It sends sizes and hashes only. Specification: C2SP tlog-witness, `add-checkpoint`.

use std::sync::Arc;
use std::time::Duration;

use quittance_events::cosignature::Cosignature;
use quittance_events::{AppendError, Ledger, Seq};
use quittance_tlog::note::NoteError;
use quittance_tlog::proof::consistency_proof;
use quittance_tlog::witness::{AddCheckpoint, RequestError, add_cosignatures, parse_size};
use quittance_tlog::{Checkpoint, CosignerKey, Note};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::client::{Client, ClientError};
use crate::config::WitnessConfig;
use crate::limits::{WITNESS_PAUSE_MAX, WITNESS_REPLY_MAX, WITNESS_TIME};
use crate::logs::{self, Foreign};
use crate::metrics::{Metrics, Witnessed};

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
enum Uncosigned {
    #[error("it did not answer in time")]
    Timeout,
    #[error("it could not be reached: {0:?}")]
    Unreached(quittance_events::facts::Failure),
    #[error("it answered {status}: {text}")]
    Refused { status: u16, text: String },
    /// The ledger that the witness knows is longer than ours.
    #[error(
        "it has cosigned {witnessed} events of this ledger, which has {ours}: the ledger was cut or restored from a \
         backup, or somebody signs another history with its checkpoint key. Stop the service and compare with the \
         witness before anything else"
    )]
    Ahead { witnessed: u64, ours: u64 },
    /// What the witness cosigned is no beginning of ours.
    #[error(
        "the {witnessed} events that it cosigned are not the first of the ledger's {ours}: history was changed, or \
         somebody signs another one with this ledger's checkpoint key. Stop the service, keep the ledger, and compare \
         with the witness before anything else"
    )]
    Contradicted { witnessed: u64, ours: u64 },
    #[error("its answer is not a cosignature by its key: {0}")]
    Answer(#[from] NoteError),
    #[error("its answer holds no cosignature by its key")]
    Nothing,
    #[error("the request could not be made: {0}")]
    Request(#[from] RequestError),
    #[error("the ledger: {0}")]
    Ledger(String),
}

/// A witness as this process knows it.
struct Witness {
    section: String,
    vkey: CosignerKey,
    client: Client,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    /// The size that it cosigned last, as far as known.
    cosigned: Seq,
    /// Failures in a row.
    failures: u32,
}

/// Starts a task for each witness; they end with `stop`.
///
/// # Errors
/// A witness over https, and no root certificates on this machine.
pub fn start(
    witnesses: &[WitnessConfig],
    ledger: &Arc<Ledger>,
    metrics: &Arc<Metrics>,
    pause: Duration,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, ClientError> {
    let made: Result<Vec<Witness>, ClientError> = witnesses
        .iter()
        .map(|config| {
            Ok(Witness {
                section: config.section.clone(),
                vkey: config.vkey.clone(),
                client: Client::new(&config.url, config.connect_to, "text/plain", None)?,
                ledger: Arc::clone(ledger),
                metrics: Arc::clone(metrics),
                cosigned: Seq::NONE,
                failures: 0,
            })
        })
        .collect();
    let tasks = made?
        .into_iter()
        .map(|witness| tokio::spawn(witness.run(pause, stop.clone())));
    Ok(tasks.collect())
}

impl Witness {
    async fn run(mut self, pause: Duration, mut stop: watch::Receiver<bool>) {
        loop {
            // A witness that is slow must not hold up the end: what it then answers, it answers again.
            let result = tokio::select! {
                result = self.catch_up() => result,
                _ = stop.changed() => return,
            };
            self.report(result);
            let doubled = pause.saturating_mul(1 << self.failures.min(16));
            tokio::select! {
                () = sleep(doubled.min(WITNESS_PAUSE_MAX)) => {}
                _ = stop.changed() => return,
            }
        }
    }

    /// Says when its state changes, not each time.
    fn report(&mut self, result: Result<bool, Uncosigned>) {
        let witness = self.section.as_str();
        let ended = match &result {
            Ok(asked) => asked.then_some(Witnessed::Cosigned),
            Err(Uncosigned::Ahead { .. } | Uncosigned::Contradicted { .. }) => Some(Witnessed::Contradicted),
            Err(_) => Some(Witnessed::Failed),
        };
        match result {
            Ok(asked) => {
                if asked && self.failures > 0 {
                    tracing::info!(witness, size = %self.cosigned, "the witness cosigns again");
                }
                if asked {
                    self.failures = 0;
                }
            }
            Err(error) => {
                let error = error.to_string();
                let error = Foreign(&error);
                if ended == Some(Witnessed::Contradicted) {
                    tracing::error!(witness, %error, "the witness has seen another history");
                } else if self.failures == 0 {
                    tracing::warn!(witness, %error, "the witness does not cosign; it is asked again");
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
        self.metrics
            .witnessed(witness, self.cosigned.get(), self.failures, ended);
    }

    /// Asks for a cosignature of the latest checkpoint, if it has not got one. Whether it asked.
    async fn catch_up(&mut self) -> Result<bool, Uncosigned> {
        let (ledger, vkey) = (Arc::clone(&self.ledger), self.vkey.to_string());
        let read = move || Ok((ledger.checkpoint()?, ledger.last_cosigned(&vkey)?));
        let (latest, last) = blocking(read).await?;
        let Some(latest) = latest else { return Ok(false) };
        let (size, note) = parse(&latest).map_err(Uncosigned::Ledger)?;
        self.cosigned = self.cosigned.max(last);
        if last == size {
            return Ok(false);
        }
        // The second time with the size that it says it has.
        for _ in 0..2 {
            match self.ask(size, &note).await? {
                Asked::Cosigned(line) => {
                    let vkey = self.vkey.to_string();
                    self.ledger
                        .keep_cosignature(Cosignature { size, vkey, line })
                        .await
                        .map_err(|e: AppendError| Uncosigned::Ledger(e.to_string()))?;
                    self.cosigned = size;
                    return Ok(true);
                }
                Asked::Has(witnessed) if witnessed > size => {
                    return Err(Uncosigned::Ahead {
                        witnessed: witnessed.get(),
                        ours: size.get(),
                    });
                }
                // It has as many events as the checkpoint, and other ones.
                Asked::Has(witnessed) if witnessed == self.cosigned && witnessed == size => {
                    return Err(self.contradicted(size));
                }
                Asked::Has(witnessed) => self.cosigned = witnessed,
                Asked::Inconsistent => return Err(self.contradicted(size)),
            }
        }
        Err(Uncosigned::Refused {
            status: 409,
            text: format!("{} events again", self.cosigned),
        })
    }

    fn contradicted(&self, size: Seq) -> Uncosigned {
        Uncosigned::Contradicted {
            witnessed: self.cosigned.get(),
            ours: size.get(),
        }
    }

    async fn ask(&self, size: Seq, note: &Note) -> Result<Asked, Uncosigned> {
        let (ledger, old) = (Arc::clone(&self.ledger), self.cosigned);
        let proof =
            blocking(move || consistency_proof(old.get(), size.get(), |node| ledger.node_hash(node))).await?;
        let request = AddCheckpoint::new(old.get(), proof, note.clone())?;
        let call = self.client.post(
            "add-checkpoint",
            request.to_string().into_bytes(),
            WITNESS_REPLY_MAX,
        );
        let reply = timeout(WITNESS_TIME, call)
            .await
            .map_err(|_| Uncosigned::Timeout)?
            .map_err(Uncosigned::Unreached)?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        match reply.http_status {
            200 => {
                let mut cosigned = note.clone();
                if add_cosignatures(&mut cosigned, &text, std::slice::from_ref(&self.vkey))?.is_empty() {
                    return Err(Uncosigned::Nothing);
                }
                let line = cosigned.signatures().last().ok_or(Uncosigned::Nothing)?;
                Ok(Asked::Cosigned(line.to_string()))
            }
            422 => Ok(Asked::Inconsistent),
            409 => parse_size(&text)
                .and_then(|size| Seq::new(size).ok())
                .map(Asked::Has)
                .ok_or(Uncosigned::Refused { status: 409, text }),
            status => Err(Uncosigned::Refused { status, text }),
        }
    }
}

/// Our own checkpoint, taken apart.
fn parse(checkpoint: &str) -> Result<(Seq, Note), String> {
    let note = Note::parse(checkpoint).map_err(|e| e.to_string())?;
    let size = Checkpoint::parse_text(note.text())
        .map_err(|e| e.to_string())?
        .size;
    Ok((Seq::new(size).map_err(|e| e.to_string())?, note))
}

enum Asked {
    /// The signature line.
    Cosigned(String),
    /// It says what size it has cosigned: another one than we thought, or another tree of that size.
    Has(Seq),
    /// The proof does not lead from what it cosigned to our checkpoint.
    Inconsistent,
}

/// Reads the ledger file where it holds up no other task.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, quittance_events::store::StoreError> + Send + 'static,
) -> Result<T, Uncosigned> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|e| Uncosigned::Ledger(logs::ended(&e).to_owned()))?
        .map_err(|e| Uncosigned::Ledger(e.to_string()))
}
