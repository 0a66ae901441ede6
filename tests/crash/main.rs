//! The built program under load, killed at random moments and started again on the same folder: what was answered
//! stays answered, nothing is refunded twice, and what was open is finished. The exchange lives on in this process.
//!
//! `QUITTANCE_KILLS` sets the number of kills, `QUITTANCE_SEED` repeats a run's dice (not its timing). And the program
//! with a disk that fails at each write in turn: `sweep`.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod caller;
mod load;
mod program;
mod proof;
mod sales;
mod scenario;
mod sweep;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use program::Program;

/// Kills in a normal run: enough to meet most windows over the days, few enough not to be waited for.
const KILLS: u64 = 6;
/// Kills where nobody waits.
const MANY_KILLS: u64 = 100;
/// Clients at once.
const CLIENTS: u64 = 5;

/// Dice that can be thrown the same way again (xorshift64*).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64, stream: u64) -> Dice {
        let mut dice = Dice((seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1);
        dice.below(2);
        dice
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn seed() -> u64 {
    number_from("QUITTANCE_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ (now.as_secs() << 30)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_it_loses_nothing_and_refunds_nothing_twice() {
    kill(KILLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and is meant for the release build; run by .ci/run"]
async fn killed_a_hundred_times_it_loses_nothing_and_refunds_nothing_twice() {
    kill(number_from("QUITTANCE_KILLS").unwrap_or(MANY_KILLS)).await;
}

async fn kill(kills: u64) {
    let seed = seed();
    println!("QUITTANCE_SEED={seed} QUITTANCE_KILLS={kills}");
    let mut dice = Dice::new(seed, 0);
    let (mut program, world) = program::make().await;
    let world = Arc::new(world);
    let mut repeated = 0;
    for round in 1..=kills {
        if dice.below(2) == 0 {
            // Killed while it starts.
            program.spawn();
            tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
            program.kill().await;
        }
        let addr = program.start().await;
        repeated += world.ask_again(addr, &mut dice).await;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (world, dice) = (
                    Arc::clone(&world),
                    Dice::new(seed, round * (CLIENTS + 1) + client),
                );
                tokio::spawn(async move { world.load(addr, dice).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(150 + dice.below(500))).await;
        program.kill().await;
        for client in clients {
            client.await.unwrap();
        }
        program.verify().await;
    }
    let addr = program.start().await;
    repeated += world.ask_again(addr, &mut dice).await;
    world.finish(addr).await;
    program.terminate().await;
    program.verify().await;
    let checked = proof::check(&program, &world);
    println!("{checked:?}, {repeated} answers given again word for word");
    assert!(checked.answers > 0 && checked.refunds > 0 && repeated > 0);
}

/// The folder goes with it.
impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
