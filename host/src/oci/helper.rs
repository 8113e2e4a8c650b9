//! Programs that keep logins: `docker-credential-NAME get` reads a registry's name and writes who one is there (the protocol of
//! docker-credential-helpers, "Usage: With other command line applications").

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::error::shown;
use super::logins::{DOCKER_HUB, Login};

/// A program, and what it is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Helper {
    program: String,
    server: String,
}

/// Some ask a service of the cloud that they are in, or a person.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer: a token of some KiB.
const MAX_BYTES: u64 = 64 << 10;
/// In place of a user's name: the secret is an identity token.
const IDENTITY_TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helper {
    /// The program of this name, as Docker's configuration has it, about this registry.
    pub(super) fn new(name: &str, registry: &str) -> Self {
        let server = if registry == DOCKER_HUB { "https://index.docker.io/v1/" } else { registry };
        Self { program: format!("docker-credential-{name}"), server: server.to_owned() }
    }

    /// Who we are there.
    ///
    /// # Errors
    /// What kept the program from saying so. Not in its own words where they could hold a secret.
    pub(super) async fn ask(&self) -> Result<Login, String> {
        if self.program.contains('/') {
            return Err(format!("{:?} of Docker's configuration is not the name of a program", self.program));
        }
        self.ask_within(TIMEOUT).await
    }

    async fn ask_within(&self, limit: Duration) -> Result<Login, String> {
        let failed = |why: String| format!("{}, which Docker's configuration leaves the login to, does not know it: {why}", self.program);
        let written = match timeout(limit, self.run()).await {
            Ok(written) => written.map_err(failed)?,
            Err(_) => return Err(failed(format!("no answer within {} s", limit.as_secs_f64()))),
        };
        let answer: Answer =
            serde_json::from_slice(&written).map_err(|_| failed("its answer is not JSON with Username and Secret".to_owned()))?;
        match answer.username.as_str() {
            IDENTITY_TOKEN => Ok(Login::of_identity_token(&answer.secret)),
            username => Login::new(username, &answer.secret).map_err(failed),
        }
    }

    async fn run(&self) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.program);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not listen may answer all the same.
            let _ = stdin.write_all(self.server.as_bytes()).await;
        }
        let mut written = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_BYTES + 1).read_to_end(&mut written).await.map_err(|error| error.to_string())?;
        }
        if written.len() as u64 > MAX_BYTES {
            return Err(format!("its answer has more than {MAX_BYTES} bytes"));
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if status.success() { Ok(written) } else { Err(format!("{status}: {}", shown(&String::from_utf8_lossy(&written)))) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    /// Asks a shell script about a registry.
    async fn asked(script: &str, registry: &str, limit: Duration) -> Result<Login, String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("helper");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Helper { program: program.display().to_string(), ..Helper::new("x", registry) }.ask_within(limit).await
    }

    async fn said(script: &str) -> String {
        asked(script, "r.example", TIMEOUT).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_program_is_told_the_registry_and_says_who_we_are() {
        // A user's name has no colon.
        let script = r#"[ "$1" = get ] || exit 1; read -r server; echo "{\"Username\": \"${server#https:}\", \"Secret\": \"s\"}""#;
        for (registry, username) in [("r.example", "r.example"), (DOCKER_HUB, "//index.docker.io/v1/")] {
            assert_eq!(asked(script, registry, TIMEOUT).await, Ok(Login::new(username, "s").unwrap()));
        }
        let token = asked(r#"echo '{"Username": "<token>", "Secret": "refresh"}'"#, "r.example", TIMEOUT).await;
        assert_eq!(token, Ok(Login::of_identity_token("refresh")));
    }

    #[tokio::test]
    async fn a_program_that_does_not_know_is_quoted_and_a_secret_is_not() {
        let unknown = said("echo credentials not found; exit 1").await;
        assert!(unknown.contains("does not know it: exit status: 1: credentials not found"), "{unknown}");
        let broken = said(r#"echo '{"Username": 7, "Secret": "sesame"}'"#).await;
        assert!(broken.contains("is not JSON with Username and Secret") && !broken.contains("sesame"), "{broken}");
        assert!(said(r#"echo '{"Username": "", "Secret": ""}'"#).await.contains("user's name is not empty"));
        let missing = Helper::new("nonesuch-of-a-test", "r.example").ask().await.unwrap_err();
        assert!(missing.contains("docker-credential-nonesuch-of-a-test") && missing.contains("No such file"), "{missing}");
        assert!(Helper::new("../x", "r.example").ask().await.unwrap_err().contains("not the name of a program"));
    }

    #[tokio::test]
    async fn a_program_has_its_time_and_its_size() {
        let begun = Instant::now();
        let slow = asked("exec sleep 60", "r.example", Duration::from_millis(200)).await.unwrap_err();
        assert!(slow.contains("no answer within 0.2 s") && begun.elapsed() < Duration::from_secs(30), "{slow}");
        assert!(said("while :; do echo xxxxxxxxxxxxxxxx; done").await.contains("more than 65536 bytes"));
    }
}
