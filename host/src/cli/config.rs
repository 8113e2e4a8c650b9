//! `--config FILE`: a YAML file with the names of the flags. Each entry becomes the flag that it names, so that values are read in one way;
//! a flag on the command line wins over the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, ColorChoice, Command, CommandFactory, FromArgMatches, ValueEnum};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::args::Cli;

/// Bytes of a configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The command whose flags a file may name; other commands take from it what they know.
const SERVER: &str = "run";

/// Reads the command line, and the configuration file if it names one.
///
/// # Errors
/// What is wrong with either; also help and version, which are shown like errors. `exit` shows all of them.
pub(super) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut argv: Vec<_> = argv.into_iter().collect();
    let mut command = Cli::command().color(color(&argv));
    command.build();
    let mut matches = command.clone().try_get_matches_from(&argv)?;
    if let Some((name, path)) = config_file(&matches) {
        let refuse = |why: String| command.clone().error(ErrorKind::ValueValidation, why);
        let given = matches.subcommand_matches(&name);
        argv.extend(flags_of_file(&path, &command, &name, given).map_err(refuse)?);
        // Alone, the command line was right.
        let together = command.clone().try_get_matches_from(&argv);
        matches = together.map_err(|error| refuse(format!("with {}: {}", path.display(), message(&error))))?;
        if matches.subcommand_matches(&name).is_some_and(|given| !given.contains_id("files")) {
            let path = path.display();
            return Err(
                command.error(ErrorKind::MissingRequiredArgument, format!("no manifests: give -f PATH, or `file: [PATH]` in {path}"))
            );
        }
    }
    Cli::from_arg_matches(&matches)
}

/// Help and errors are coloured before the command line is understood, so this flag is looked for ahead of the rest.
fn color(argv: &[OsString]) -> ColorChoice {
    let mut words = argv.iter().filter_map(|word| word.to_str());
    let choice = words.find_map(|word| word.strip_prefix("--color")).map(str::to_owned);
    let choice = match choice.as_deref() {
        Some("") => argv.iter().skip_while(|word| *word != "--color").nth(1).and_then(|word| word.to_str()),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    };
    choice.and_then(|choice| ColorChoice::from_str(choice, false).ok()).unwrap_or_default()
}

fn config_file(matches: &ArgMatches) -> Option<(String, PathBuf)> {
    let (name, given) = matches.subcommand()?;
    let path = given.try_get_one::<PathBuf>("config").ok().flatten()?;
    Some((name.to_owned(), path.clone()))
}

/// The flags that the file stands for, less those that were given, and those that this command does not know.
fn flags_of_file(path: &Path, command: &Command, name: &str, given: Option<&ArgMatches>) -> Result<Vec<OsString>, String> {
    let known = arguments(command, SERVER);
    let wanted = arguments(command, name);
    let mut flags = vec![];
    for (key, value) in read(path)? {
        let place = format!("{}:{}", path.display(), value.referenced.line());
        let Some(argument) = known.get(key.as_str()) else {
            return Err(format!("{place}: there is no option {key:?}{}", suggestion(&key, known.keys())));
        };
        let values = spell(argument, value.value).map_err(|why| format!("{place}: {key}: {why}"))?;
        check(command, &values).map_err(|why| format!("{place}: {why}"))?;
        let Some(wanted) = wanted.get(key.as_str()) else { continue };
        if given.is_none_or(|given| given.value_source(wanted.get_id().as_str()) != Some(ValueSource::CommandLine)) {
            flags.extend(values);
        }
    }
    Ok(flags)
}

/// A command's flags by their long names, as far as they make sense in a file.
fn arguments<'a>(command: &'a Command, name: &str) -> BTreeMap<&'a str, &'a Arg> {
    let arguments = command.find_subcommand(name).into_iter().flat_map(Command::get_arguments);
    let flags = arguments.filter_map(|argument| Some((argument.get_long()?, argument)));
    flags.filter(|(long, _)| !matches!(*long, "config" | "help" | "version")).collect()
}

fn read(path: &Path) -> Result<BTreeMap<String, Spanned<Value>>, String> {
    let shown = path.display();
    let length = std::fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!("{shown} has {length} bytes, and a configuration has at most {MAX_FILE_BYTES}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    if text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
        return Ok(BTreeMap::new());
    }
    serde_saphyr::from_str(&text).map_err(|error| format!("{shown}: {error}"))
}

/// The flags that an entry stands for: one, or one a list item; a flag without a value is there or not.
fn spell(argument: &Arg, value: Value) -> Result<Vec<OsString>, String> {
    let key = argument.get_long().unwrap_or_default();
    let values = match value {
        Value::Bool(set) if !argument.get_action().takes_values() => return Ok(if set { vec![format!("--{key}").into()] } else { vec![] }),
        _ if !argument.get_action().takes_values() => return Err("expected true or false".to_owned()),
        Value::Array(values) => values,
        value => vec![value],
    };
    let text = |value| match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null => Err("has no value".to_owned()),
        Value::Array(_) | Value::Object(_) => Err("expected a value, or a list of values".to_owned()),
    };
    values.into_iter().map(|value| Ok(OsString::from(format!("--{key}={}", text(value)?)))).collect()
}

/// Whether `run` would take these flags; whether it lacks others is seen when all are together.
fn check(command: &Command, flags: &[OsString]) -> Result<(), String> {
    let around = ["pointsman", SERVER, "--config", "FILE"].into_iter().map(OsString::from);
    match command.clone().color(ColorChoice::Never).try_get_matches_from(around.chain(flags.iter().cloned())) {
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => Err(message(&error)),
        _ => Ok(()),
    }
}

/// What clap says, as part of a sentence.
fn message(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\nUsage").next().and_then(|text| text.split("\n\nFor more").next()).unwrap_or(&text);
    message.trim_start_matches("error: ").trim().to_owned()
}

fn suggestion<'a>(key: &str, known: impl Iterator<Item = &'a &'a str>) -> String {
    let nearest = known.map(|name| (strsim::osa_distance(key, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= (key.len() / 3).max(1) => format!("; did you mean {name:?}?"),
        _ => "; `pointsman run --help` lists them".to_owned(),
    }
}

#[cfg(test)]
mod tests;
