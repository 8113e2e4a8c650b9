//! `pointsman policy push` and `pointsman policy pull`: policies to and from OCI registries.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use tempfile::NamedTempFile;

use super::args::PolicyArgs;
use super::policy::{component, say};
use crate::admin::MAX_COMPONENT_BYTES;
use crate::objects::reference::Reference;
use crate::oci::{Artifact, Cache, Client, Login, Logins, Options, default_folder};
use crate::policy::Limits;
use crate::policy::inspect::{Inspection, inspect};

/// Bytes of a password or token.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

/// How every file of WebAssembly begins.
const MAGIC: &[u8] = b"\0asm";

/// Who one is at the registry, and how it is spoken to.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The registry")]
pub struct RegistryArgs {
    /// The user [default: as `docker login` left it in ~/.docker/config.json]
    #[arg(long, value_name = "USER", requires = "password_file")]
    pub username: Option<String>,
    /// The file with the user's password or token; - is standard input
    #[arg(long, value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
    /// Speak HTTP without TLS. On this machine that is done anyway, where the registry knows no TLS
    #[arg(long)]
    pub plain_http: bool,
}

/// What `policy push` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pointsman policy push registry.example/team/fill-first:1.0 fill-first.wasm
  pointsman policy push 127.0.0.1:5000/fill-first:1.0 fill-first.wasm")]
pub struct PushArgs {
    /// Where to: a host, a repository, and a tag
    #[arg(value_name = "REFERENCE")]
    pub reference: Reference,
    /// The component
    pub file: PathBuf,
    /// The registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// What `policy pull` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pointsman policy pull registry.example/team/fill-first:1.0
  pointsman policy pull registry.example/team/fill-first@sha256:… -o policies/fill-first.wasm")]
pub struct PullArgs {
    /// Where from: a host, a repository, and a tag or a digest
    #[arg(value_name = "REFERENCE")]
    pub reference: Reference,
    /// The file to write; one that is there is replaced, a pipe or a device is written to [default: the repository's last part, with .wasm, if there is no such file]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where what was pulled is kept, as `run` has it [default: ~/.cache/pointsman]
    #[arg(long, value_name = "DIR")]
    pub policy_cache: Option<PathBuf>,
    /// The registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Puts a component into a registry.
///
/// # Errors
/// The file is no policy, or the registry does not take it.
pub(super) async fn push(args: PushArgs) -> anyhow::Result<()> {
    let component = component(&args.file)?;
    let found = looked_at(&component).with_context(|| format!("{} is not pushed", args.file.display()))?;
    let artifact = Artifact::of_component(component.into(), &found.exports, &found.imports)?;
    let digest = client(&args.registry)?.push(&args.reference, &artifact).await?;
    say(&args.reference.pinned(digest).to_string())
}

/// Fetches a component from a registry.
///
/// # Errors
/// It is not to be had, or the file cannot be written.
pub(super) async fn pull(args: PullArgs) -> anyhow::Result<()> {
    let name = args.reference.repository().rsplit('/').next().unwrap_or_default();
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
    let there = || anyhow!("{} is there already: say -o {} to replace it, or another file", file.display(), file.display());
    match &args.output {
        Some(file) => ensure!(file != Path::new("-"), "-o -: standard output is for the reference; name a file"),
        // Also a link that leads nowhere.
        None => ensure!(file.symlink_metadata().is_err(), there()),
    }
    let cache = cache(args.policy_cache.as_deref())?;
    let pulled = client(&args.registry)?.pull(&args.reference, cache.as_ref()).await?;
    let written = if args.output.is_some() { replace(&file, &pulled.component) } else { create(&file, &pulled.component) };
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => there(),
        _ => anyhow!(error).context(format!("writing {}", file.display())),
    })?;
    writeln!(io::stderr(), "{} has {} bytes", file.display(), pulled.component.len())?;
    // Alone on standard output, so that a script can take it.
    say(&pulled.reference.to_string())
}

/// By whom a host pulls: as Docker's configuration says, and with TLS but for this machine.
pub(super) fn puller(args: &PolicyArgs) -> Client {
    let limits = args.sandbox.limits();
    let bytes = |limits: &Limits| limits.component_bytes.min(MAX_COMPONENT_BYTES) as u64;
    Client::new(Options {
        plain_http: false,
        logins: Logins::of_environment(),
        max_component_bytes: bytes(&limits),
        max_large_bytes: bytes(&limits.large()),
        large: args.large_policy.iter().cloned().collect(),
    })
}

/// What a host pulled before; none where no Service may name a policy by reference.
///
/// # Errors
/// The folder that was named cannot be used.
pub(super) fn kept(args: &PolicyArgs) -> anyhow::Result<Option<Cache>> {
    if args.allow_policy_registry.is_empty() { Ok(None) } else { cache(args.policy_cache.as_deref()) }
}

/// The folder of what is pulled. Where nobody named one and there is none to be had, nothing is kept.
///
/// # Errors
/// The folder that was named cannot be used.
fn cache(named: Option<&Path>) -> anyhow::Result<Option<Cache>> {
    match named {
        Some(folder) => Ok(Some(Cache::open(folder).with_context(|| format!("--policy-cache {}", folder.display()))?)),
        None => Ok(default_folder().and_then(|folder| Cache::open(&folder).ok())),
    }
}

fn client(args: &RegistryArgs) -> anyhow::Result<Client> {
    let logins = match (&args.username, &args.password_file) {
        (Some(username), Some(file)) => {
            let password = password(file).with_context(|| format!("--password-file {}", file.display()))?;
            Logins::Given(Login::new(username, &password).map_err(|why| anyhow!("--username, --password-file: {why}"))?)
        }
        _ => Logins::of_environment(),
    };
    let max = MAX_COMPONENT_BYTES as u64;
    let plain_http = args.plain_http;
    Ok(Client::new(Options { plain_http, logins, max_component_bytes: max, max_large_bytes: max, large: BTreeSet::new() }))
}

/// Without the end of line that editors add.
fn password(file: &Path) -> anyhow::Result<String> {
    let mut password = String::new();
    if file == Path::new("-") {
        io::stdin().lock().take(MAX_PASSWORD_BYTES).read_to_string(&mut password)?;
    } else {
        File::open(file)?.take(MAX_PASSWORD_BYTES).read_to_string(&mut password)?;
    }
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

/// Whether it is a policy at all. Other limits are those of the host that will pull it.
fn looked_at(component: &[u8]) -> anyhow::Result<Inspection> {
    ensure!(component.starts_with(MAGIC), "it is no WebAssembly at all");
    let limits = Limits {
        component_bytes: MAX_COMPONENT_BYTES,
        modules: usize::MAX,
        functions: usize::MAX,
        body_bytes: usize::MAX,
        memory_bytes: usize::MAX,
        ..Limits::default()
    };
    let inspection = inspect(component, &limits)?;
    inspection.shape(&limits, true)?;
    Ok(inspection)
}

/// A file that is not there, not even since it was looked for.
fn create(file: &Path, bytes: &[u8]) -> io::Result<()> {
    draft(file, bytes)?.persist_noclobber(file)?;
    Ok(())
}

/// A file, or what stands in its place. What is no file, as a pipe or a device, is written to, and stays what it is.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link goes on to lead where it leads.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if fs::metadata(&file).is_ok_and(|metadata| !metadata.is_file()) {
        return OpenOptions::new().write(true).open(&file)?.write_all(bytes);
    }
    draft(&file, bytes)?.persist(&file)?;
    Ok(())
}

/// Beside its place, so that a host that watches the folder never sees a half.
fn draft(file: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = fs::Permissions::from_mode(0o644);
    let mut draft = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
    draft.write_all(bytes)?;
    Ok(draft)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, symlink};

    use super::*;

    #[test]
    fn what_was_not_asked_for_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.wasm");
        create(&file, b"first").unwrap();
        assert_eq!(create(&file, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"first");
        let dangling = folder.path().join("link.wasm");
        symlink("nowhere", &dangling).unwrap();
        assert_eq!(create(&dangling, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(fs::symlink_metadata(&dangling).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "and nothing is left over");
    }

    #[test]
    fn what_is_asked_for_stays_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (folder.path().join("p.wasm"), folder.path().join("link.wasm"), folder.path().join("pipe"));
        fs::write(&file, "before").unwrap();
        symlink("p.wasm", &link).unwrap();
        replace(&link, b"after").unwrap();
        assert_eq!((fs::read(&file).unwrap(), fs::read_link(&link).unwrap()), (b"after".to_vec(), PathBuf::from("p.wasm")));

        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let mut reader = OpenOptions::new().read(true).custom_flags(flags).open(&pipe).unwrap();
        replace(&pipe, b"through it").unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"through it");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(replace(folder.path(), b"").is_err(), "a folder");
    }
}
