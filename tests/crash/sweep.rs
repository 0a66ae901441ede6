//! The disk fails, or the machine dies, at each write in turn: strace lets the n-th call of one kind on the ledger's
//! files fail with EIO once, with ENOSPC twenty times in a row, or kills the program in it. What the story's client was
//! answered is there afterwards, the auditor finds nothing, and the story comes to its end.
//!
//! `QUITTANCE_SWEEP_STRIDE` tries about every n-th point only, `QUITTANCE_SEED` says which.

use std::collections::BTreeMap;
use std::time::Instant;

use quittance_sandbox::Sandbox;

use crate::program::{ADD_INSTANCE, Program, prepare};
use crate::scenario::Story;
use crate::{Dice, number_from, seed};

/// Whatever changes files, makes them or makes them last.
const CALLS: &str = "openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink,\
                     unlinkat,link,linkat,mkdir,mkdirat,fchmod";
const FAULTS: [&str; 3] = [
    "error=EIO:when=#",
    "error=ENOSPC:when=#..+",
    "signal=SIGKILL:when=#",
];
/// Failures in a row of a disk that is full for a while.
const FULL_FOR: u64 = 20;

/// What the program does while its disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Init,
    AddInstance,
    Serve,
}

#[derive(Debug, Default)]
struct Tally {
    points: usize,
    /// In how many the fault was met.
    met: usize,
    /// Points after which the program was gone; it was started again.
    ended: usize,
    /// Requests answered with 500, and answers and receipts looked up afterwards.
    refused: u32,
    answers: usize,
}

/// Runs what follows with one injection, or with none, and writes what was traced to `trace`.
fn strace(program: &Program, inject: Option<&str>) -> Vec<String> {
    let trace = program.path("trace").display().to_string();
    let _ = std::fs::remove_file(&trace);
    // -D: the program is our child and strace its grandchild, so that signals and exit codes are the program's.
    let mut wrapper: Vec<String> = [
        "strace",
        "-D",
        "-f",
        "-qqq",
        "-o",
        &trace,
        "-e",
        &format!("trace={CALLS}"),
    ]
    .map(str::to_owned)
    .to_vec();
    let root = program.path(".").canonicalize().unwrap();
    for name in [
        "data",
        "data/ledger.sqlite3",
        "data/ledger.sqlite3-wal",
        "data/ledger.sqlite3-shm",
        "data/ledger.sqlite3.lock",
        "anchor",
        "anchor/ledger.anchor",
        "anchor/ledger.anchor.new",
        "keys",
        "keys/event.key",
        "keys/checkpoint.key",
        "keys/instance-default.key",
        "keys/instance-default.json",
        "keys/event.key.part",
        "keys/checkpoint.key.part",
        "keys/instance-default.key.part",
        "keys/instance-default.new",
        "keys/instance-default.new.part",
    ] {
        wrapper.extend(["-P".to_owned(), root.join(name).display().to_string()]);
    }
    wrapper.extend(inject.map(|inject| format!("--inject={inject}")));
    wrapper.push("--".into());
    wrapper
}

fn trace(program: &Program) -> String {
    std::fs::read_to_string(program.path("trace")).unwrap_or_default()
}

/// How often each call was made by the thread that made it most: strace counts by thread.
fn count(trace: &str) -> BTreeMap<String, u64> {
    let mut by_thread: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        if let Some((call, _)) = rest.trim_start().split_once('(')
            && CALLS.split(',').any(|known| known == call)
        {
            *by_thread.entry((thread, call)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), calls) in by_thread {
        let entry = most.entry(call.to_owned()).or_default();
        *entry = calls.max(*entry);
    }
    most
}

struct Sweep {
    sandbox: Sandbox,
    /// A folder with a configuration, one with a ledger, one with an instance, and the instance's token.
    folders: [Program; 3],
    token: String,
    stories: u64,
}

impl Sweep {
    async fn new() -> Sweep {
        let (bare, sandbox) = prepare().await;
        let mut begun = bare.copied();
        let (code, vkey) = begun.try_run(&[], &["init"]).await;
        assert_eq!(code, Some(0), "{}", begun.log());
        begun.vkey = vkey;
        let open = begun.copied();
        let (code, token) = open.try_run(&[], &ADD_INSTANCE).await;
        assert_eq!(code, Some(0), "{}", open.log());
        Sweep {
            sandbox,
            folders: [bare, begun, open],
            token,
            stories: 0,
        }
    }

    fn story(&mut self, token: &str) -> Story<'_> {
        self.stories += 1;
        Story::new(&self.sandbox, token, self.stories)
    }

    /// One run with this injection, and all that must hold after it. Gives what was traced.
    async fn run(&mut self, phase: Phase, inject: Option<&str>, tally: &mut Tally) -> String {
        match phase {
            Phase::Init => self.init(inject, tally).await,
            Phase::AddInstance => self.add_instance(inject, tally).await,
            Phase::Serve => self.serve(inject, tally).await,
        }
    }

    async fn init(&mut self, inject: Option<&str>, tally: &mut Tally) -> String {
        let mut program = self.folders[0].copied();
        let (code, vkey) = program.try_run(&strace(&program, inject), &["init"]).await;
        let trace = trace(&program);
        if code == Some(0) {
            program.vkey = vkey;
            let (code, token) = program.try_run(&[], &ADD_INSTANCE).await;
            assert_eq!(code, Some(0), "{}", program.log());
            self.whole_story(program, &token, tally).await;
            return trace;
        }
        tally.ended += 1;
        clear_word(&program, code, &["init"]);
        // Again: it is made, or what is there is named. What is there is used by nothing but what can be audited.
        let before = program.log().len();
        let (code, vkey) = program.try_run(&[], &["init"]).await;
        if code == Some(0) {
            program.vkey = vkey;
        } else {
            assert_eq!(code, Some(1), "{}", program.log());
            let said = program.log().split_off(before);
            let root = program.path(".").canonicalize().unwrap();
            assert!(
                said.contains(&root.display().to_string()),
                "it names no file: {said}"
            );
        }
        let (code, token) = program.try_run(&[], &ADD_INSTANCE).await;
        if code == Some(0) {
            self.whole_story(program, &token, tally).await;
        } else {
            clear_word(&program, code, &ADD_INSTANCE);
        }
        trace
    }

    async fn add_instance(&mut self, inject: Option<&str>, tally: &mut Tally) -> String {
        let program = self.folders[1].copied();
        let (code, mut token) = program.try_run(&strace(&program, inject), &ADD_INSTANCE).await;
        let trace = trace(&program);
        if code != Some(0) {
            tally.ended += 1;
            clear_word(&program, code, &ADD_INSTANCE);
            let (again, printed) = program.try_run(&[], &ADD_INSTANCE).await;
            token = printed;
            if again != Some(0) {
                // It was recorded, and its token told to nobody: closed and opened again, there is a new one.
                assert!(program.log().contains("is open already"), "{}", program.log());
                for arguments in [&["instance", "close", "--id", "default"][..], &ADD_INSTANCE] {
                    let (code, printed) = program.try_run(&[], arguments).await;
                    assert_eq!(code, Some(0), "{}", program.log());
                    token = printed;
                }
            }
        }
        self.whole_story(program, &token, tally).await;
        trace
    }

    /// The story on a machine that is well.
    async fn whole_story(&mut self, mut program: Program, token: &str, tally: &mut Tally) {
        let mut story = self.story(token);
        let addr = program.start().await;
        story.tell(addr).await.expect("it runs");
        story.finish(addr).await;
        program.terminate().await;
        program.verify().await;
        tally.answers += story.check(&program);
    }

    async fn serve(&mut self, inject: Option<&str>, tally: &mut Tally) -> String {
        let mut program = self.folders[2].copied();
        let token = self.token.clone();
        let mut story = self.story(&token);
        program.spawn_by(&strace(&program, inject));
        let told = match program.listens().await {
            Ok(addr) => story.tell(addr).await.is_ok(),
            Err(_) => false,
        };
        program.ask_to_stop().await;
        let code = program.ended().await;
        let trace = trace(&program);
        if !told {
            tally.ended += 1;
            clear_word(&program, code, &["serve"]);
        }
        // As it was left: nothing answered is missing, and the auditor finds nothing.
        program.verify().await;
        tally.answers += story.check(&program);
        let addr = program.start().await;
        story.tell(addr).await.expect("it runs");
        story.finish(addr).await;
        program.terminate().await;
        program.verify().await;
        tally.answers += story.check(&program);
        tally.refused += story.refused;
        trace
    }
}

/// Killed, or ended by its own decision and with its reason as the last line.
fn clear_word(program: &Program, code: Option<i32>, what: &[&str]) {
    let log = program.log();
    assert!(!log.contains("panicked"), "{what:?}: {log}");
    if let Some(code) = code {
        assert!((1..=3).contains(&code), "{what:?} ended with {code}: {log}");
        let said = log
            .lines()
            .any(|line| line.starts_with("quittance: ") && line.len() > 20);
        assert!(said, "{what:?} does not say why it ended: {log}");
    }
}

async fn sweep(phase: Phase) {
    let stride = number_from("QUITTANCE_SWEEP_STRIDE").unwrap_or(1);
    let seed = seed();
    let begun = Instant::now();
    let mut sweep = Sweep::new().await;
    let baseline = sweep.run(phase, None, &mut Tally::default()).await;
    let calls = count(&baseline);
    assert!(
        calls.contains_key("fsync") || calls.contains_key("fdatasync"),
        "strace saw nothing: {baseline}"
    );
    let mut points = Vec::new();
    for (call, most) in &calls {
        for n in 1..=*most {
            for fault in FAULTS {
                let fault = fault
                    .replace('#', &n.to_string())
                    .replace('+', &(n + FULL_FOR - 1).to_string());
                points.push(format!("{call}:{fault}"));
            }
        }
    }
    println!(
        "{phase:?}: QUITTANCE_SEED={seed} QUITTANCE_SWEEP_STRIDE={stride}, {} points: {calls:?}",
        points.len()
    );
    let mut tally = Tally::default();
    let mut dice = Dice::new(seed, 0);
    for point in &points {
        if dice.below(stride) != 0 {
            continue;
        }
        // The last line of a run that fails tells where.
        println!("{phase:?} {point}");
        let trace = sweep.run(phase, Some(point), &mut tally).await;
        tally.points += 1;
        tally.met += usize::from(trace.contains("(INJECTED)") || trace.contains("+++ killed by SIGKILL"));
    }
    println!("{phase:?}: {tally:?} in {} s", begun.elapsed().as_secs());
    assert!(tally.met > 0 && tally.answers > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs strace and the release build; run by .ci/run"]
async fn init_at_each_point_of_a_failing_disk() {
    sweep(Phase::Init).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs strace and the release build; run by .ci/run"]
async fn instance_add_at_each_point_of_a_failing_disk() {
    sweep(Phase::AddInstance).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs strace and the release build; run by .ci/run"]
async fn serve_at_each_point_of_a_failing_disk() {
    sweep(Phase::Serve).await;
}
