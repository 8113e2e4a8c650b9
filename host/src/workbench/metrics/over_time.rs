//! What is measured pick by pick, in constant time each. Endpoints are numbered densely, in whatever way the caller likes.

/// `herd-share`, over the first so many picks after an endpoint joined.
pub const FIRST_PICKS: u32 = 100;

/// `burst`: picks of one endpoint within a window of so many milliseconds.
pub const BURST_MS: u64 = 100;

/// Picks held against what the weights promise: an ideal schedule gives each pick to everybody, by weight.
#[derive(Debug, Default)]
pub struct Schedule {
    endpoints: Vec<Share>,
    /// Σ 1 / Σw over the picks: times its weight, what an endpoint was promised.
    promised: f64,
    /// Σw of those that take part.
    weights: f64,
    deviation: f64,
    run: (Option<usize>, u64),
    longest_run: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// 0: takes no part.
    weight: f64,
    picks: u64,
    /// Up to `since`.
    expected: f64,
    since: f64,
}

impl Schedule {
    /// From now on these take part, with these weights; what was counted stays.
    pub fn set_members(&mut self, members: impl Iterator<Item = (usize, f64)>) {
        let promised = self.promised;
        for share in &mut self.endpoints {
            share.settle(promised);
            share.weight = 0.0;
        }
        self.weights = 0.0;
        for (endpoint, weight) in members {
            let share = self.share(endpoint);
            (share.weight, share.since) = (weight, promised);
            self.weights += weight;
        }
    }

    /// Somebody was picked.
    pub fn pick(&mut self, endpoint: usize) {
        let before = self.promised;
        self.promised += if self.weights > 0.0 { 1.0 / self.weights } else { 0.0 };
        let promised = self.promised;
        let share = self.share(endpoint);
        // It lags most just before it is picked, and leads most just after.
        let lag = (share.expected(before) - share.picks as f64).abs();
        share.picks += 1;
        let lead = (share.picks as f64 - share.expected(promised)).abs();
        self.deviation = self.deviation.max(lag).max(lead);
        self.run = match self.run {
            (Some(last), length) if last == endpoint => (Some(last), length + 1),
            _ => (Some(endpoint), 1),
        };
        self.longest_run = self.longest_run.max(self.run.1);
    }

    /// Counts afresh, with the same members.
    pub fn restart(&mut self) {
        for share in &mut self.endpoints {
            *share = Share { weight: share.weight, ..Share::default() };
        }
        *self = Self { endpoints: std::mem::take(&mut self.endpoints), weights: self.weights, ..Self::default() };
    }

    /// `max-run`: the longest run of picks of one endpoint.
    pub fn longest_run(&self) -> u64 {
        self.longest_run
    }

    /// `schedule-deviation`: the most by which an endpoint was ahead of or behind the ideal schedule, in picks. Smooth weighted round
    /// robin stays within 1 (Tijdeman 1980 for the ideal; nginx's does in practice).
    pub fn deviation(&self) -> f64 {
        let now = self.endpoints.iter().map(|share| (share.picks as f64 - share.expected(self.promised)).abs());
        now.fold(self.deviation, f64::max)
    }

    /// Picks, and picks that were expected, by endpoint.
    pub fn counts(&self) -> (Vec<u64>, Vec<f64>) {
        self.endpoints.iter().map(|share| (share.picks, share.expected(self.promised))).unzip()
    }

    fn share(&mut self, endpoint: usize) -> &mut Share {
        if endpoint >= self.endpoints.len() {
            self.endpoints.resize(endpoint + 1, Share::default());
        }
        &mut self.endpoints[endpoint]
    }
}

impl Share {
    fn expected(&self, promised: f64) -> f64 {
        self.expected + self.weight * (promised - self.since)
    }

    fn settle(&mut self, promised: f64) {
        self.expected = self.expected(promised);
        self.since = promised;
    }
}

/// Whether everybody runs to a newcomer.
#[derive(Debug, Default)]
pub struct Herd {
    /// Endpoint, fair share, picks since it joined, of these its own.
    open: Vec<(usize, f64, u32, u32)>,
    /// Share and fair share of those that have had their picks.
    done: Vec<(f64, f64)>,
}

impl Herd {
    /// An endpoint joined, with this part of all weights.
    pub fn join(&mut self, endpoint: usize, fair: f64) {
        self.open.push((endpoint, fair, 0, 0));
    }

    /// It left again: too soon to say.
    pub fn leave(&mut self, endpoint: usize) {
        self.open.retain(|(newcomer, ..)| *newcomer != endpoint);
    }

    /// Somebody was picked.
    pub fn pick(&mut self, endpoint: usize) {
        let done = &mut self.done;
        self.open.retain_mut(|(newcomer, fair, picks, own)| {
            *picks += 1;
            *own += u32::from(*newcomer == endpoint);
            if *picks == FIRST_PICKS {
                done.push((f64::from(*own) / f64::from(FIRST_PICKS), *fair));
            }
            *picks < FIRST_PICKS
        });
    }

    /// `herd-share`: the part of the first picks after it joined that a newcomer got, the mean over newcomers; and `herd-ratio`: the same
    /// by what would be fair. None where nobody joined, or nobody was seen for long enough.
    pub fn shares(&self) -> Option<(f64, f64)> {
        let n = self.done.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| self.done.iter().map(of).sum::<f64>() / n;
        (n > 0.0).then(|| (mean(|(share, _)| *share), mean(|(share, fair)| share / fair)))
    }
}

/// Picks of one endpoint in a short time.
#[derive(Debug, Default)]
pub struct Burst {
    /// Window and picks in it.
    endpoints: Vec<(u64, u64)>,
    most: u64,
}

impl Burst {
    /// Somebody was picked, at this time of a clock that never goes back.
    pub fn pick(&mut self, endpoint: usize, now_ms: u64) {
        if endpoint >= self.endpoints.len() {
            self.endpoints.resize(endpoint + 1, (0, 0));
        }
        let window = now_ms / BURST_MS;
        let (last, picks) = &mut self.endpoints[endpoint];
        *picks = if *last == window { *picks + 1 } else { 1 };
        *last = window;
        self.most = self.most.max(*picks);
    }

    /// `burst`: the most picks of one endpoint within a window (they lie side by side, from 0 on).
    pub fn most(&self) -> u64 {
        self.most
    }
}

/// Whether loads swing about their mean.
#[derive(Debug, Default)]
pub struct Oscillation {
    /// The last error that was not 0, by endpoint.
    signs: Vec<f64>,
    changes: u64,
    samples: u64,
}

impl Oscillation {
    /// One endpoint's load error at one sample: its load by weight, less the mean.
    pub fn sample(&mut self, endpoint: usize, error: f64) {
        if endpoint >= self.signs.len() {
            self.signs.resize(endpoint + 1, 0.0);
        }
        self.samples += 1;
        if error != 0.0 {
            let last = &mut self.signs[endpoint];
            self.changes += u64::from(*last * error < 0.0);
            *last = error.signum();
        }
    }

    /// `oscillation`: changes of sign a second, of an endpoint on average, when samples were taken every so many seconds. Errors without
    /// memory change sign about every other sample; less is calmer, and more is a swing.
    pub fn per_second(&self, interval_s: f64) -> Option<f64> {
        (self.samples > 0).then(|| self.changes as f64 / (self.samples as f64 * interval_s))
    }
}
