//! The service's clocks. Handed in everywhere, so that a test says what time it is and no decision reads the
//! system's clock by itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quittance_taler::Micros;
use tokio::time::Instant;

/// Tells the time in microseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// Tells how long it has been since some moment of this process. Setting the system's clock moves it not, so that what must
/// wait waits.
pub type Steady = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Since this call.
#[must_use]
pub fn steady() -> Steady {
    let began = Instant::now();
    Arc::new(move || began.elapsed())
}

/// The system's clock.
///
/// # Panics
/// Before 1970 or after 2255, where no timestamp of ours could be written.
#[must_use]
pub fn system() -> Clock {
    Arc::new(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the system's clock is after 1970");
        let micros = u64::try_from(now.as_micros()).expect("the system's clock is before 2255");
        Micros::new(micros).expect("the system's clock is before 2255")
    })
}
