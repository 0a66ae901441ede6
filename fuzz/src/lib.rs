//! What the fuzz targets share: a bound on the memory that a parser may take, and an order whose exchange replies.
//!
//! A target says in its assertions what must hold of whatever comes in; that nothing panics, hangs or takes more memory
//! than its bound is demanded of all of them. How to run them: `docs/testing.md` of the project.

use std::alloc::System;
use std::panic;
use std::sync::Once;

use cap::Cap;

pub mod dispute;
pub mod exchange;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

static HOOK: Once = Once::new();

/// What any parser may take besides what it reads, in bytes: tables, messages, the first block of a buffer.
const BASE: usize = 1 << 20;

/// Runs a parser that may hold at most `times` bytes a byte of input, and a megabyte. One allocation more ends the
/// process, which libFuzzer takes for a crash and keeps the input.
pub fn bounded<T>(input: usize, times: usize, parser: impl FnOnce() -> T) -> T {
    // Who reports a panic needs memory for it: without any, it would wait for a lock of its own for ever.
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            lift();
            report(panic);
        }));
    });
    let limit = ALLOCATOR.allocated() + BASE + input * times;
    ALLOCATOR
        .set_limit(limit)
        .expect("the limit is above what is in use");
    let result = parser();
    lift();
    result
}

fn lift() {
    ALLOCATOR
        .set_limit(usize::MAX)
        .expect("there is no greater limit");
}

/// The input as text, for parsers that are handed one.
pub fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}
