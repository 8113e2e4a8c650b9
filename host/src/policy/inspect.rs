//! What can be known of a component before it is compiled: sizes, imports, exports, digest. Reads with wasmparser, runs nothing.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload};

use super::contract::StageKind;
use super::limits::Limits;
use super::refusal::Refusal;

/// The package of the contract.
pub const PACKAGE: &str = "pointsman:policy";
/// The version of the contract that this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";

/// How WebAssembly begins.
const MAGIC: &[u8] = b"\0asm";

/// What a component is made of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inspection {
    /// `sha256:…`.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// Core modules in it.
    pub modules: u64,
    /// Functions, in all modules.
    pub functions: u64,
    /// The largest function body.
    pub largest_body_bytes: u64,
    /// Linear memories of all modules, at their initial size.
    pub initial_memory_bytes: u64,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
}

/// What a component that passed offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The stage that it fills.
    pub stage: StageKind,
    /// It exports `feedback`.
    pub learns: bool,
    /// It imports WASI.
    pub wasi: bool,
}

/// A measured value beside its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Measure {
    /// What was measured.
    pub what: &'static str,
    /// The value.
    pub measured: u64,
    /// The limit.
    pub limit: u64,
}

/// The digest by which versions are told apart.
pub fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Takes a component apart.
///
/// # Errors
/// `CoreModule` and `Malformed`; `OverLimit` for bytes that are too many to look at. Other limits are `Inspection::shape`'s business.
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Inspection, Refusal> {
    check_size(bytes.len() as u64, limits)?;
    if !bytes.starts_with(MAGIC) {
        return Err(Refusal::Malformed("its first bytes are not those of WebAssembly".to_owned()));
    }
    let mut found = Inspection {
        digest: digest(bytes),
        bytes: bytes.len() as u64,
        modules: 0,
        functions: 0,
        largest_body_bytes: 0,
        initial_memory_bytes: 0,
        imports: Vec::new(),
        exports: Vec::new(),
    };
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        found.read(payload.map_err(malformed)?, &mut depth)?;
    }
    Ok(found)
}

/// Refuses what is too large even to be read.
///
/// # Errors
/// `OverLimit`.
pub fn check_size(bytes: u64, limits: &Limits) -> Result<(), Refusal> {
    let measure = |limits: &Limits| Measure { what: COMPONENT_SIZE, measured: bytes, limit: limits.component_bytes as u64 };
    over(measure(limits), measure(&limits.large()))
}

const COMPONENT_SIZE: &str = "component size in bytes";

impl Inspection {
    /// Each measured value beside its limit.
    pub fn measures(&self, limits: &Limits) -> [Measure; 5] {
        [
            Measure { what: COMPONENT_SIZE, measured: self.bytes, limit: limits.component_bytes as u64 },
            Measure { what: "core modules", measured: self.modules, limit: limits.modules as u64 },
            Measure { what: "functions", measured: self.functions, limit: limits.functions as u64 },
            Measure { what: "largest function body in bytes", measured: self.largest_body_bytes, limit: limits.body_bytes as u64 },
            Measure { what: "initial memory in bytes", measured: self.initial_memory_bytes, limit: limits.memory_bytes as u64 },
        ]
    }

    /// What the component offers, if it may be compiled at all.
    ///
    /// # Errors
    /// `OverLimit`, `Import` and `WrongWorld`.
    pub fn shape(&self, limits: &Limits, wasi_granted: bool) -> Result<Shape, Refusal> {
        self.measures(limits).into_iter().zip(self.measures(&limits.large())).try_for_each(|(measure, large)| over(measure, large))?;
        let stage = self.stage()?;
        let wasi = self.check_imports(wasi_granted)?;
        Ok(Shape { stage, learns: self.has("feedback"), wasi })
    }

    fn has(&self, interface: &str) -> bool {
        self.exports.iter().any(|export| *export == format!("{PACKAGE}/{interface}@{CONTRACT_VERSION}"))
    }

    fn stage(&self) -> Result<StageKind, Refusal> {
        let stages = [StageKind::Selector, StageKind::TrafficPolicy, StageKind::Balancer];
        let filled: Vec<StageKind> = stages.into_iter().filter(|stage| self.has(stage.name())).collect();
        let wrong = |why: String| Err(Refusal::WrongWorld(why));
        match filled.as_slice() {
            [stage] if self.has("lifecycle") => Ok(*stage),
            [stage] => wrong(format!("it exports {}, but not {PACKAGE}/lifecycle@{CONTRACT_VERSION}", stage.name())),
            [] => wrong(self.no_stage()),
            several => {
                let names: Vec<&str> = several.iter().map(|stage| stage.name()).collect();
                wrong(format!("it exports {}; a component fills one stage", names.join(" and ")))
            }
        }
    }

    fn no_stage(&self) -> String {
        let versions: BTreeSet<&str> = self
            .exports
            .iter()
            .filter_map(|export| export.strip_prefix(PACKAGE)?.split_once('@'))
            .map(|(_, version)| version)
            .filter(|version| *version != CONTRACT_VERSION)
            .collect();
        if let Some(version) = versions.first() {
            return format!("it was built for {PACKAGE}@{version}, and this host speaks {CONTRACT_VERSION}: build it against its `wit/`");
        }
        let exports = if self.exports.is_empty() { "nothing".to_owned() } else { self.exports.join(", ") };
        format!("it exports {exports}; a policy exports {PACKAGE}/balancer@{CONTRACT_VERSION}, or selector, or traffic-policy")
    }

    /// Whether WASI is among the imports, all of which are allowed.
    fn check_imports(&self, wasi_granted: bool) -> Result<bool, Refusal> {
        let mut wasi = false;
        for name in &self.imports {
            if OFFERED.iter().any(|offered| *name == format!("{PACKAGE}/{offered}@{CONTRACT_VERSION}")) {
                continue;
            }
            let why = if !name.starts_with("wasi:") {
                format!("this host does not offer; a policy may import {PACKAGE}/log@{CONTRACT_VERSION} and load@{CONTRACT_VERSION}")
            } else if !wasi_granted {
                WASI_REMEDY.to_owned()
            } else {
                wasi = true;
                continue;
            };
            return Err(Refusal::Import { name: name.clone(), why });
        }
        Ok(wasi)
    }

    fn read(&mut self, payload: Payload<'_>, depth: &mut u32) -> Result<(), Refusal> {
        match payload {
            Payload::Version { encoding, .. } => {
                if encoding == Encoding::Module {
                    if *depth == 0 {
                        return Err(Refusal::CoreModule);
                    }
                    self.modules += 1;
                }
                *depth += 1;
            }
            Payload::End(_) => *depth = depth.saturating_sub(1),
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::CodeSectionEntry(body) => {
                self.largest_body_bytes = self.largest_body_bytes.max(body.range().len() as u64);
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let pages = memory.map_err(malformed)?.initial;
                    self.initial_memory_bytes = self.initial_memory_bytes.saturating_add(pages.saturating_mul(PAGE_BYTES));
                }
            }
            Payload::ComponentImportSection(section) if *depth == 1 => {
                for import in section {
                    // A type is not something that the host would have to provide.
                    let import = import.map_err(malformed)?;
                    if !matches!(import.ty, wasmparser::ComponentTypeRef::Type(_)) && !is_types_only(import.name.name) {
                        self.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if *depth == 1 => {
                for export in section {
                    self.exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The records of the contract: an import without functions.
fn is_types_only(name: &str) -> bool {
    name == format!("{PACKAGE}/types@{CONTRACT_VERSION}")
}

/// What a policy may import.
const OFFERED: [&str; 2] = ["load", "log"];
const PAGE_BYTES: u64 = 65_536;
const WASI_REMEDY: &str = "only a policy that was granted it may: build for wasm32-unknown-unknown (Rust), with `--stub-wasi` (Python), \
    with all five `disableFeatures` (JavaScript), or as a reactor without stdio (C); or start the host with `--grant-wasi NAME`";

const LARGE_REMEDY: &str = "; if it brings a language runtime, as components from JavaScript and Python do, start the host with \
    `--large-policy NAME`";

fn malformed(error: wasmparser::BinaryReaderError) -> Refusal {
    Refusal::Malformed(error.to_string())
}

/// `large` is the same beside the limit of a policy that was granted a language runtime.
fn over(measure: Measure, large: Measure) -> Result<(), Refusal> {
    let Measure { what, measured, limit } = measure;
    if measured <= limit {
        return Ok(());
    }
    let remedy = if measured <= large.limit { LARGE_REMEDY } else { "" };
    Err(Refusal::OverLimit { what, measured, limit, remedy })
}
