//! Reading selectors: words and signs, then requirements of them.

use super::Requirement;

/// All requirements of a text, separated by commas.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut reader = Reader { tokens: tokens(text), at: 0, end: text.chars().count() + 1 };
    let mut requirements = Vec::new();
    if reader.next_is("") {
        return Ok(requirements);
    }
    loop {
        requirements.push(reader.requirement()?);
        if reader.next_is("") {
            return Ok(requirements);
        }
        reader.expect(",", "`,` or the end")?;
    }
}

/// A word or a sign, and the place of its first character, from 1.
struct Token<'t> {
    place: usize,
    text: &'t str,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut place = 1;
    while let Some(first) = rest.chars().next() {
        let length = if SIGNS.contains(&first) {
            ["==", "!="].into_iter().find(|sign| rest.starts_with(sign)).map_or(first.len_utf8(), str::len)
        } else {
            rest.find(|c: char| SIGNS.contains(&c) || c.is_whitespace()).unwrap_or(rest.len()).max(first.len_utf8())
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() {
            tokens.push(Token { place, text: token });
        }
        place += token.chars().count();
        rest = after;
    }
    tokens
}

struct Reader<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    /// The place behind the last character.
    end: usize,
}

impl<'t> Reader<'t> {
    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.take("!");
        let key = self.key()?;
        let requirement = |values, negated| Ok(Requirement { key: key.to_owned(), values, negated });
        if absent || self.next_is("") || self.next_is(",") {
            return requirement(None, absent);
        }
        for (sign, negated) in [("=", false), ("==", false), ("!=", true)] {
            if self.take(sign) {
                return requirement(Some(vec![self.value()?]), negated);
            }
        }
        for (word, negated) in [("in", false), ("notin", true)] {
            if self.take(word) {
                return requirement(Some(self.values()?), negated);
            }
        }
        Err(self.found("`=`, `!=`, `in`, `notin`, `,` or the end"))
    }

    fn key(&mut self) -> Result<&'t str, String> {
        // Kubernetes does not take them for keys either.
        let key = self.word().filter(|word| !["in", "notin"].contains(word)).ok_or_else(|| self.found("a label's key"))?;
        let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
        if !prefix.is_none_or(is_subdomain) || name.is_empty() || !is_name(name) {
            return Err(
                self.wrong(key, "no label's key: that is a name of up to 63 letters, digits, `-`, `_` and `.`, after `domain/` perhaps")
            );
        }
        self.at += 1;
        Ok(key)
    }

    /// Nothing is a value too.
    fn value(&mut self) -> Result<String, String> {
        if self.next_is("") || self.next_is(",") || self.next_is(")") {
            return Ok(String::new());
        }
        let value = self.word().ok_or_else(|| self.found("a label's value"))?;
        if !is_name(value) {
            return Err(self.wrong(value, "no label's value: that is up to 63 letters, digits, `-`, `_` and `.`"));
        }
        self.at += 1;
        Ok(value.to_owned())
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        self.expect("(", "`(`")?;
        if self.next_is(")") {
            return Err(self.found("a label's value"));
        }
        let mut values = vec![self.value()?];
        while self.take(",") {
            values.push(self.value()?);
        }
        self.expect(")", "`,` or `)`")?;
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    /// The next token; nothing at the end.
    fn next(&self) -> &'t str {
        self.tokens.get(self.at).map_or("", |token| token.text)
    }

    fn next_is(&self, text: &str) -> bool {
        self.next() == text
    }

    /// The next token, if it is no sign.
    fn word(&self) -> Option<&'t str> {
        Some(self.next()).filter(|word| word.chars().next().is_some_and(|first| !SIGNS.contains(&first)))
    }

    fn take(&mut self, text: &str) -> bool {
        let taken = self.next_is(text);
        self.at += usize::from(taken);
        taken
    }

    fn expect(&mut self, text: &str, expected: &str) -> Result<(), String> {
        if self.take(text) { Ok(()) } else { Err(self.found(expected)) }
    }

    fn place(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |token| token.place)
    }

    fn found(&self, expected: &str) -> String {
        match self.next() {
            "" => format!("at character {}: it ends, expected {expected}", self.place()),
            found => format!("at character {}: found `{found}`, expected {expected}", self.place()),
        }
    }

    fn wrong(&self, text: &str, why: &str) -> String {
        format!("at character {}: `{text}` is {why}", self.place())
    }
}

/// `([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?`, at most 63 characters.
fn is_name(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inner = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    text.len() <= 63 && inner && ends(text.chars().next()) && ends(text.chars().next_back())
}

/// A DNS subdomain (RFC 1123), at most 253 characters.
fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// `<` and `>` are Kubernetes' too: they are told apart so as to be refused.
const SIGNS: [char; 7] = ['=', '!', '(', ')', ',', '<', '>'];
