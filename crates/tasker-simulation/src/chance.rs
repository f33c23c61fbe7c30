//! Random decisions, all of them from the seed.

use std::ops::Range;
use std::time::Duration;

use rand::distr::uniform::{SampleRange, SampleUniform};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The decisions of one actor. Each has its own, so that what one of them decides does not depend
/// on how often another was asked.
#[derive(Debug)]
pub(crate) struct Chance(StdRng);

impl Chance {
    /// The first one of a seed.
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(StdRng::seed_from_u64(seed))
    }

    /// The decisions about one thing that has numbers instead of a moment: always the same.
    pub(crate) fn about(numbers: &[u64]) -> Chance {
        // FNV-1a; the generator does the mixing.
        let mixed = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Chance::new(mixed)
    }

    /// The decisions of another actor.
    pub(crate) fn fork(&mut self) -> Chance {
        Chance::new(self.0.random())
    }

    /// Whether something happens that does so in this share of all cases.
    pub(crate) fn happens(&mut self, share: f64) -> bool {
        self.0.random_bool(share)
    }

    /// A number of a range.
    pub(crate) fn number<T: SampleUniform>(&mut self, range: impl SampleRange<T>) -> T {
        self.0.random_range(range)
    }

    /// One of several things.
    pub(crate) fn one_of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.0.random_range(0..things.len())]
    }

    /// A time of a range; each order of magnitude is as likely as another.
    pub(crate) fn time(&mut self, range: &Range<Duration>) -> Duration {
        let (from, to) = (range.start.as_secs_f64().ln(), range.end.as_secs_f64().ln());
        Duration::from_secs_f64(self.0.random_range(from..to).exp())
    }
}
