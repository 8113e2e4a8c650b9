//! "Did you mean …?"

/// The candidate closest to `word`, whatever the distance.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|candidate| distance(word, candidate))
}

/// Whether one may have been meant for the other: at most one edit in five letters, at least one, and case does not count.
pub(super) fn is_close(word: &str, candidate: &str) -> bool {
    distance(word, candidate) <= (word.chars().count() / 5).clamp(1, 3)
}

/// Edits (an exchange of neighbours is one) between two words, case aside.
pub(super) fn distance(word: &str, candidate: &str) -> usize {
    strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase())
}

/// The candidate that was probably meant, if one is close enough.
pub(super) fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(word, candidates).filter(|candidate| is_close(word, candidate))
}
