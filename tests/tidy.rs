//! What the compiler does not check: the one-way arrows between the host's modules, and a few habits of the house.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A module of `host/src`, and those it may import besides itself.
const ARROWS: [(&str, &[&str]); 16] = [
    ("objects", &[]),
    ("store", &["objects"]),
    ("source", &["objects", "store"]),
    ("table", &["objects"]),
    ("policy", &["table", "sys"]),
    ("control", &["objects", "store", "table", "policy"]),
    ("route", &["table", "policy"]),
    ("observe", &["table", "route", "policy"]),
    ("probe", &["objects", "store"]),
    ("oci", &["objects"]),
    ("dataplane", &["table", "policy", "route", "observe", "sys"]),
    ("admin", &["objects", "table", "policy", "observe", "workbench"]),
    ("workbench", &["objects", "store", "table", "policy", "control", "route", "observe"]),
    ("sys", &[]),
    ("engine", ALL_BUT_CLI),
    ("cli", ALL),
];

const ALL_BUT_CLI: &[&str] = &[
    "objects",
    "store",
    "source",
    "table",
    "policy",
    "control",
    "route",
    "observe",
    "probe",
    "oci",
    "dataplane",
    "admin",
    "workbench",
    "sys",
];

const ALL: &[&str] = &[
    "objects",
    "store",
    "source",
    "table",
    "policy",
    "control",
    "route",
    "observe",
    "probe",
    "oci",
    "dataplane",
    "admin",
    "workbench",
    "sys",
    "engine",
];

/// All that `policy` may import from `sys`: machine code is loaded by an unsafe call.
const POLICY_MAY_IMPORT_FROM_SYS: &str = "crate::sys::artifact";

/// The core takes time, randomness and events as arguments (style.md, 1).
const CORE: [&str; 5] = ["objects", "store", "table", "route", "control"];

/// What would bring a clock, a lock or chance into the core.
const NOT_IN_CORE: [&str; 10] = [
    "fastrand",
    "Instant::now",
    "SystemTime",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "sync::{Mutex",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs::",
    "tokio::",
];

/// A longer file usually holds two things.
const MAX_LINES: usize = 800;

/// Files that are longer, each with the reason.
const LONG: [(&str, &str); 0] = [];

/// What must not be left behind. In pieces, so that this list does not find itself.
const LEFTOVERS: [&str; 5] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("#[ig", "nore"), concat!("dbg", "!(")];

#[test]
fn modules_import_only_along_the_arrows() -> Result<()> {
    let source = root().join("host/src");
    let mut wrong = Vec::new();
    for file in rust_files(&source)? {
        let relative = file.strip_prefix(&source)?;
        let Some(module) = module_of(relative) else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: the module `{module}` has no arrows in tests/tidy.rs", relative.display()));
            continue;
        };
        let text = std::fs::read_to_string(&file)?;
        for (line, imported) in imports(&text) {
            let own = imported == module;
            let written = text.lines().nth(line - 1).unwrap_or_default();
            let sys = module == "policy" && imported == "sys" && !written.contains(POLICY_MAY_IMPORT_FROM_SYS);
            // The crate's own root items (`crate::Error`) are not modules.
            let known = ARROWS.iter().any(|(name, _)| *name == imported);
            if !own && known && (sys || !allowed.contains(&imported.as_str())) {
                wrong.push(format!("{}:{line}: `{module}` imports `{imported}`", relative.display()));
            }
        }
    }
    none("imports against the arrows of ARCHITECTURE.md", &wrong)
}

#[test]
fn every_module_of_the_host_exists() -> Result<()> {
    let source = root().join("host/src");
    let missing = ARROWS.iter().map(|(name, _)| *name);
    let missing: Vec<String> =
        missing.filter(|name| !source.join(name).is_dir() && !source.join(format!("{name}.rs")).is_file()).map(String::from).collect();
    none("modules named in tests/tidy.rs that are not there", &missing)
}

#[test]
fn unsafe_code_stands_in_sys_alone() -> Result<()> {
    let sys = [root().join("host/src/sys"), root().join("host/src/sys.rs")];
    let mut wrong = Vec::new();
    for file in all_rust_files()? {
        if sys.iter().any(|sys| file.starts_with(sys)) {
            continue;
        }
        for (number, line) in code_lines(&std::fs::read_to_string(&file)?) {
            let lent = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code", "expect(unsafe_code"];
            // Exports of a guest are made by the SDK's macro, which wit-bindgen fills with unsafe code of its own.
            if lent.iter().any(|piece| line.contains(piece)) && !file.starts_with(root().join("guest-policies/sdk")) && !is_this(&file) {
                wrong.push(format!("{}:{number}: {}", shown(&file), line.trim()));
            }
        }
    }
    none("unsafe code outside host/src/sys", &wrong)
}

#[test]
fn the_core_has_no_clock_no_lock_and_no_input_or_output() -> Result<()> {
    let mut wrong = Vec::new();
    for module in CORE {
        for file in rust_files(&root().join("host/src").join(module))? {
            if is_test_file(&file) {
                continue;
            }
            for (number, line) in code_lines(&std::fs::read_to_string(&file)?) {
                if line.trim() == "mod tests {" {
                    break;
                }
                for banned in NOT_IN_CORE.iter().filter(|banned| line.contains(**banned)) {
                    wrong.push(format!("{}:{number}: `{banned}`", shown(&file)));
                }
            }
        }
    }
    none("clocks, locks, sockets or files in the core", &wrong)
}

#[test]
fn no_file_grows_past_a_second_look() -> Result<()> {
    let mut wrong = Vec::new();
    for file in all_rust_files()? {
        let lines = std::fs::read_to_string(&file)?.lines().count();
        let name = shown(&file);
        match LONG.iter().find(|(long, _)| *long == name) {
            Some(_) if lines <= MAX_LINES => wrong.push(format!("{name} is short again ({lines} lines): take it off the list")),
            None if lines > MAX_LINES => wrong.push(format!("{name} has {lines} lines")),
            _ => {}
        }
    }
    none(&format!("files of more than {MAX_LINES} lines"), &wrong)
}

#[test]
fn nothing_is_left_behind() -> Result<()> {
    let mut wrong = Vec::new();
    for file in all_rust_files()? {
        for (number, line) in std::fs::read_to_string(&file)?.lines().enumerate() {
            for leftover in LEFTOVERS.iter().filter(|leftover| has_word(line, leftover)) {
                wrong.push(format!("{}:{}: `{leftover}`", shown(&file), number + 1));
            }
        }
    }
    none("notes to oneself, tests switched off, debug prints", &wrong)
}

/// Traffic stays on this machine: tests dial loopback addresses, or addresses inside a namespace that the test made.
#[test]
fn tests_dial_no_address_outside_the_machine() -> Result<()> {
    let mut wrong = Vec::new();
    for folder in ["tests", "xtask"] {
        for file in rust_files(&root().join(folder))? {
            for (number, line) in code_lines(&std::fs::read_to_string(&file)?) {
                for call in ["connect(\"", "bind(\"", "connect((\"", "bind((\""] {
                    for (at, _) in line.match_indices(call) {
                        let address = &line[at + call.len()..];
                        let digit = address.starts_with(|c: char| c.is_ascii_digit());
                        if digit && !address.starts_with("127.") && !is_this(&file) {
                            wrong.push(format!("{}:{number}: {}", shown(&file), line.trim()));
                        }
                    }
                }
            }
        }
    }
    none("addresses outside 127.0.0.0/8", &wrong)
}

/// The scanner of this file finds what it should: a tidy that sees nothing keeps nothing.
#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::table::Table;\nuse crate::{objects::model, store};\nuse crate::{\n    policy::Fault,\n    route,\n};\nfn f() { crate::sys::open() }\n\
                // crate::cli is a comment\n";
    let found: BTreeSet<_> = imports(text).into_iter().map(|(_, module)| module).collect();
    assert_eq!(found, BTreeSet::from(["objects", "policy", "route", "store", "sys", "table"].map(String::from)));
}

/// Every module named after `crate::`, with its line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let code: String = code_lines(text).into_iter().map(|(_, line)| format!("{line}\n")).collect();
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        // `pointsman_crate::` and the like are other things.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + path.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(top_level(group).into_iter().map(|name| (line, name))),
            None => found.push((line, identifier(rest))),
        }
    }
    found
}

/// The first identifier of each entry of a `{…}` group, whose opening brace has been read.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut entry, mut names) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(identifier(std::mem::take(&mut entry).trim())),
            _ if depth == 0 => entry.push(c),
            _ => {}
        }
    }
    names.push(identifier(entry.trim()));
    names.retain(|name| !name.is_empty());
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Lines with comments blanked, numbered from 1.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let code = |line: &str| line.find("//").filter(|at| !line[..*at].contains('"')).map_or(line.to_owned(), |at| line[..at].to_owned());
    text.lines().enumerate().map(|(n, line)| (n + 1, code(line))).collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let bare = word.chars().all(char::is_alphanumeric);
    let edge = |c: Option<char>| !bare || !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| edge(line[..at].chars().next_back()) && edge(line[at + word.len()..].chars().next()))
}

fn module_of(relative: &Path) -> Option<String> {
    let first = relative.components().next()?.as_os_str().to_str()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&module)).then(|| module.to_owned())
}

fn is_test_file(file: &Path) -> bool {
    file.components()
        .any(|part| part.as_os_str().to_str().is_some_and(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs")))
}

fn is_this(file: &Path) -> bool {
    file.ends_with("tests/tidy.rs")
}

fn all_rust_files() -> Result<Vec<PathBuf>> {
    let folders = ["host", "guest-policies", "tests", "xtask"].map(|folder| rust_files(&root().join(folder)));
    Ok(folders.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let here = here.canonicalize().unwrap_or(here);
    here.parent().map(PathBuf::from).unwrap_or(here)
}

fn none(what: &str, wrong: &[String]) -> Result<()> {
    ensure!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    Ok(())
}
