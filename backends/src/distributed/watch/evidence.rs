//! Who is to blame, from the signs of life.

use std::time::Duration;

use crate::distributed::post_mortem::ranks;

/// The last that was heard of a rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    at: Duration,
    sign: String,
}

/// What the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    /// It answered last at this time.
    Answered(Duration),
    /// It cannot be reached any more.
    Gone,
}

/// All that a verdict rests on.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    /// This rank.
    pub(super) own: usize,
    pub(super) rank_0_serves: bool,
    pub(super) now: Duration,
    /// How long a rank or an operation may be waited for.
    pub(super) limit: Duration,
    /// How old a sign of life may be that is called fresh.
    pub(super) stale: Duration,
    /// Operations that this rank has begun.
    pub(super) number: u64,
    /// The oldest operation that is not over, with the time when it began.
    pub(super) under_way: Option<(Duration, &'static str)>,
    /// Since when a connection of NCCL's is known to be lost.
    pub(super) lost: Option<Duration>,
    /// By rank; empty until all have met.
    pub(super) heard: &'a [Heard],
    pub(super) meeting: Meeting,
    /// What another has found.
    pub(super) told: Option<&'a str>,
    /// Whether a rank has come to the end of the run.
    pub(super) parted: bool,
}

impl Heard {
    /// A rank that has come.
    pub(super) fn met(at: Duration) -> Self {
        Self {
            at,
            sign: String::new(),
        }
    }

    /// A sign that has been read; one that is as the last is none.
    pub(super) fn update(&mut self, sign: &str, now: Duration) {
        if self.sign != sign {
            self.at = now;
            sign.clone_into(&mut self.sign);
        }
    }

    /// Operations that the rank has begun, and the last of them.
    fn progress(&self) -> (u64, &str) {
        let mut words = self.sign.splitn(3, ' ').skip(1);
        let number = words.next().and_then(|word| word.parse().ok());
        (number.unwrap_or(0), words.next().unwrap_or_default())
    }
}

impl Evidence<'_> {
    /// What is wrong, if something is, and the operation that has been waited for.
    pub(super) fn verdict(&self) -> Option<(Option<&'static str>, String)> {
        let operation = self.under_way.map(|(_, operation)| operation);
        let late = self
            .under_way
            .is_some_and(|(since, _)| self.age(since) > self.limit);
        if self.heard.is_empty() {
            let blame = "the meeting point does not answer";
            // Longer than the training itself waits, which can say more.
            let late = self
                .under_way
                .is_some_and(|(since, _)| self.age(since) > self.limit + 2 * super::GRACE);
            return late.then(|| (operation, blame.to_owned()));
        }
        if let Some(told) = self.told {
            return Some((operation, told.to_owned()));
        }
        // When a rank has come to its end the others are there, too, and may go at any time.
        if !self.parted {
            if let Some(blame) = self.of_the_store() {
                return Some((operation, blame));
            }
            let silent = self.silent(self.limit);
            if !silent.is_empty() {
                return Some((operation, self.of_the_silent(&silent)));
            }
            if let Some(blame) = self.lost.and_then(|since| self.of_the_lost(since)) {
                return Some((operation, blame));
            }
        }
        late.then(|| (operation, self.of_the_late()))
    }

    /// Whether a sign of life of `rank` is fresh.
    pub(super) fn is_alive(&self, rank: usize) -> bool {
        let heard = self.heard.get(rank);
        heard.is_some_and(|heard| self.age(heard.at) <= self.stale)
    }

    fn age(&self, since: Duration) -> Duration {
        self.now.saturating_sub(since)
    }

    /// Rank 0 where the store is gone with it, or hangs with it. A launcher that is gone takes no rank along.
    fn of_the_store(&self) -> Option<String> {
        if !self.rank_0_serves || self.own == 0 {
            return None;
        }
        match self.meeting {
            Meeting::Gone => Some("rank 0 is gone, and with it the meeting point".into()),
            Meeting::Answered(at) if self.age(at) > self.limit => Some(self.of_rank_0()),
            Meeting::Answered(_) => None,
        }
    }

    /// The store does not answer, and it is not known to be gone.
    fn of_rank_0(&self) -> String {
        let silent = self.of_the_silent(&[0]);
        format!("{silent}, and with it the meeting point")
    }

    /// Ranks of which nothing has been heard for `time`, as far as others can be heard of at all.
    fn silent(&self, time: Duration) -> Vec<usize> {
        let Meeting::Answered(at) = self.meeting else {
            return Vec::new();
        };
        if self.age(at) > self.stale {
            return Vec::new();
        }
        let old = |rank: &usize| {
            let heard = self.heard.get(*rank);
            heard.is_some_and(|heard| self.age(heard.at) > time)
        };
        let others = (0..self.heard.len()).filter(|rank| *rank != self.own);
        others.filter(old).collect()
    }

    fn of_the_silent(&self, silent: &[usize]) -> String {
        let (give, their) = match silent.len() {
            1 => ("gives", "its"),
            _ => ("give", "their"),
        };
        let last = silent.first().and_then(|&rank| self.heard.get(rank));
        let last = match last.map(Heard::progress) {
            Some((number, operation)) if silent.len() == 1 && number > 0 => {
                format!("; its last operation was {operation} (number {number})")
            }
            _ => String::new(),
        };
        format!(
            "{} {give} no sign of life: killed, hung, or {their} machine cannot be reached{last}",
            ranks(silent)
        )
    }

    /// Whose connection has been lost: a rank that is gone falls silent within moments.
    fn of_the_lost(&self, since: Duration) -> Option<String> {
        let silent = self.silent(self.stale);
        if !silent.is_empty() {
            return Some(self.of_the_silent(&silent));
        }
        let but = match self.meeting {
            Meeting::Answered(at) if self.age(at) > self.stale => {
                // One that is only stopped for a while keeps its connections.
                let rank_0 = self.rank_0_serves && self.own != 0;
                let long = self.age(at) > 4 * self.stale;
                return (rank_0 && long).then(|| self.of_rank_0());
            }
            Meeting::Answered(_) => {
                "though all ranks are there: look at the network, and at the GPUs"
            }
            Meeting::Gone => "and without the meeting point it cannot be told to whom",
        };
        let late = self.age(since) > 2 * self.stale;
        late.then(|| format!("NCCL has lost a connection, {but}"))
    }

    /// Why an operation takes too long.
    fn of_the_late(&self) -> String {
        let silent = self.silent(self.stale);
        if !silent.is_empty() && !self.parted {
            return self.of_the_silent(&silent);
        }
        let number = |rank: &usize| self.heard.get(*rank).map_or(0, |heard| heard.progress().0);
        let others = || (0..self.heard.len()).filter(|rank| *rank != self.own);
        let least = others().map(|rank| number(&rank)).min().unwrap_or(0);
        if least >= self.number {
            let making = self
                .under_way
                .is_some_and(|(_, what)| what == super::MAKING);
            let more = match making {
                true => "; GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME choose its interfaces",
                false => "",
            };
            return format!(
                "all ranks are there and none is behind: look at the network, and at the devices{more}"
            );
        }
        let behind: Vec<usize> = others().filter(|rank| number(rank) == least).collect();
        let last = self.heard[behind[0]].progress().1;
        let (live, their) = match behind.len() {
            1 => ("lives and does not come to it: its", "is"),
            _ => ("live and do not come to it: their", "is"),
        };
        format!(
            "{} {live} last operation {their} {last} (number {least} of {})",
            ranks(&behind),
            self.number
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// What a rank of four has heard of the others: when, and of which operation.
    fn heard(signs: [(u64, u64); 4]) -> Vec<Heard> {
        let heard = |(at, number)| Heard {
            at: seconds(at),
            sign: format!("7 {number} gathering rows"),
        };
        signs.map(heard).into()
    }

    /// After 100 s, in an operation that has just begun.
    fn evidence(heard: &[Heard]) -> Evidence<'_> {
        Evidence {
            own: 1,
            rank_0_serves: true,
            now: seconds(100),
            limit: seconds(60),
            stale: seconds(6),
            number: 42,
            under_way: Some((seconds(99), "adding up values")),
            lost: None,
            heard,
            meeting: Meeting::Answered(seconds(99)),
            told: None,
            parted: false,
        }
    }

    fn blame(evidence: &Evidence<'_>) -> String {
        let (operation, blame) = evidence.verdict().expect("a verdict");
        assert_eq!(operation, Some("adding up values"));
        blame
    }

    #[test]
    fn all_is_well() {
        let heard = heard([(99, 42), (0, 0), (98, 41), (45, 42)]);
        let evidence = evidence(&heard);
        // Old, but within the limit; one's own signs are not judged.
        assert_eq!(evidence.verdict(), None);
        assert!(evidence.is_alive(2) && !evidence.is_alive(3));
    }

    #[test]
    fn the_silent_are_named_with_their_last_operation() {
        let one = heard([(99, 42), (0, 0), (39, 40), (98, 42)]);
        let text = blame(&evidence(&one));
        assert!(text.starts_with("rank 2 gives no sign of life"), "{text}");
        assert!(text.ends_with("gathering rows (number 40)"), "{text}");
        let two = heard([(99, 42), (0, 0), (39, 40), (30, 42)]);
        let text = blame(&evidence(&two));
        assert!(text.starts_with("ranks 2 and 3 give no"), "{text}");
    }

    #[test]
    fn rank_0_takes_the_store_along() {
        let all = heard([(30, 42), (0, 0), (30, 42), (30, 42)]);
        let mut evidence = evidence(&all);
        evidence.meeting = Meeting::Gone;
        assert!(blame(&evidence).starts_with("rank 0 is gone"));
        // It hangs: of nobody is anything heard.
        evidence.meeting = Meeting::Answered(seconds(39));
        assert!(blame(&evidence).starts_with("rank 0 gives no sign of life"));
        // A store of the launcher's says nothing of the ranks.
        evidence.rank_0_serves = false;
        assert_eq!(evidence.verdict(), None);
        // Nor does one that goes when all have come to the end.
        evidence.rank_0_serves = true;
        evidence.parted = true;
        assert_eq!(evidence.verdict(), None);
    }

    #[test]
    fn who_lives_and_does_not_come_is_named() {
        let behind = heard([(99, 42), (0, 0), (99, 40), (99, 42)]);
        let mut evidence = evidence(&behind);
        evidence.under_way = Some((seconds(39), "adding up values"));
        let text = blame(&evidence);
        assert!(
            text.starts_with("rank 2 lives and does not come to it"),
            "{text}"
        );
        assert!(text.contains("gathering rows (number 40 of 42)"), "{text}");
        let level = heard([(99, 42), (0, 0), (99, 43), (99, 42)]);
        evidence.heard = &level;
        assert!(blame(&evidence).contains("the network"));
        evidence.under_way = Some((seconds(39), super::super::MAKING));
        let (_, text) = evidence.verdict().expect("a verdict");
        assert!(text.contains("GLOO_SOCKET_IFNAME"), "{text}");
        evidence.under_way = Some((seconds(39), "adding up values"));
        // Silent for less than the limit, but longer than any that lives.
        let silent = heard([(99, 42), (0, 0), (60, 42), (99, 41)]);
        evidence.heard = &silent;
        assert!(blame(&evidence).starts_with("rank 2 gives no sign"));
    }

    #[test]
    fn whose_connection_is_lost_falls_silent() {
        // Within the limit, which is not waited for then.
        let silent = heard([(99, 42), (0, 0), (93, 42), (98, 42)]);
        let mut evidence = evidence(&silent);
        assert_eq!(evidence.verdict(), None);
        evidence.lost = Some(seconds(95));
        assert!(blame(&evidence).starts_with("rank 2 gives no sign of life"));
        // All are there, so far.
        let all = heard([(99, 42), (0, 0), (95, 42), (98, 42)]);
        evidence.heard = &all;
        assert_eq!(evidence.verdict(), None);
        evidence.lost = Some(seconds(87));
        let text = blame(&evidence);
        assert!(text.contains("though all ranks are there"), "{text}");
        // Of whom nothing can be heard just now nothing is said.
        evidence.meeting = Meeting::Answered(seconds(93));
        assert_eq!(evidence.verdict(), None);
        // But of rank 0, where the store it keeps has not answered for long, and not only for as long as others are given.
        evidence.meeting = Meeting::Answered(seconds(75));
        assert!(blame(&evidence).starts_with("rank 0 gives no sign of life"));
        evidence.lost = None;
        assert_eq!(evidence.verdict(), None);
        evidence.lost = Some(seconds(87));
        evidence.rank_0_serves = false;
        assert_eq!(evidence.verdict(), None);
        evidence.meeting = Meeting::Gone;
        let text = blame(&evidence);
        assert!(text.contains("without the meeting point"), "{text}");
        // Ranks that part close their connections.
        evidence.parted = true;
        assert_eq!(evidence.verdict(), None);
    }

    #[test]
    fn what_others_have_found_counts_first() {
        let silent = heard([(99, 42), (0, 0), (9, 42), (99, 41)]);
        let mut evidence = evidence(&silent);
        evidence.told = Some("rank 3 has ended: cannot read 7.jpg");
        assert_eq!(blame(&evidence), "rank 3 has ended: cannot read 7.jpg");
    }

    #[test]
    fn a_sign_that_is_repeated_is_none() {
        let mut heard = Heard::met(seconds(1));
        heard.update("3 9 waiting for all ranks", seconds(2));
        heard.update("3 9 waiting for all ranks", seconds(5));
        assert_eq!(heard.at, seconds(2));
        assert_eq!(heard.progress(), (9, "waiting for all ranks"));
        assert_eq!(Heard::met(seconds(1)).progress(), (0, ""));
    }
}
