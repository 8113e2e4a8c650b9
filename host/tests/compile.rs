//! Compiling in a child of the real program: it works, it is bounded, and its machine code may be kept.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::policy::compile::Compiler;
use pointsman::policy::registry::{Registry, RegistryOptions, Swapped};
use pointsman::policy::{Limits, Refusal, Sandbox};
use pointsman_guests::Component;

/// A fresh host: swaps a component in that is not built in under that name.
fn swap(limits: Limits, program: &str, cache: Option<&Path>) -> Result<Swapped, Refusal> {
    let compiler = Compiler::Child { program: PathBuf::from(program) };
    let registry = Registry::new(Sandbox::with_cache(limits, compiler, cache).unwrap(), RegistryOptions::default());
    registry.swap("mine", Component::named("maglev").unwrap().bytes)
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

#[test]
fn a_child_compiles() {
    assert!(swap(Limits::default(), PROGRAM, None).unwrap().changed);
}

#[test]
fn a_child_that_does_not_speak_is_an_error_with_a_reason() {
    assert!(matches!(swap(Limits::default(), "/bin/true", None), Err(Refusal::Compile(_))));
    let why = swap(Limits::default(), "/nonexistent", None).unwrap_err().to_string();
    assert!(why.starts_with("/nonexistent: "), "{why}");
}

#[test]
fn what_was_compiled_once_is_not_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    swap(Limits::default(), PROGRAM, Some(&cache)).unwrap();
    // A program that cannot compile: only the cache can have answered.
    assert!(swap(Limits::default(), "/bin/false", Some(&cache)).unwrap().changed);
    for file in fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_none()) {
        let mut content = fs::read(&file).unwrap();
        let last = content.len() - 1;
        content[last] ^= 1;
        fs::write(file, content).unwrap();
    }
    assert!(matches!(swap(Limits::default(), "/bin/false", Some(&cache)), Err(Refusal::Compile(_))), "a changed file is not code");
    assert!(swap(Limits::default(), PROGRAM, Some(&cache)).unwrap().changed, "and is mended");
}

#[test]
fn a_child_without_memory_is_refused_and_the_host_lives() {
    let refusal = swap(Limits { compile_memory_bytes: 8 << 20, ..Limits::default() }, PROGRAM, None).unwrap_err();
    assert!(matches!(refusal, Refusal::Compile(_)), "{refusal}");
}

#[test]
fn a_child_that_hangs_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("hang");
    fs::write(&script, "#!/bin/sh\nexec sleep 600\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let began = Instant::now();
    let limits = Limits { compile_time: Duration::from_secs(1), ..Limits::default() };
    let refusal = swap(limits, script.to_str().unwrap(), None).unwrap_err();
    assert_eq!(refusal, Refusal::Compile("it took more than 1 s".into()));
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn many_hosts_may_share_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(folder.path().join("cache"));
    let hosts: Vec<_> = (0..2)
        .map(|_| {
            let cache = Arc::clone(&cache);
            std::thread::spawn(move || swap(Limits::default(), PROGRAM, Some(&cache)).map(|swapped| swapped.changed))
        })
        .collect();
    for host in hosts {
        assert_eq!(host.join().unwrap(), Ok(true));
    }
}
