//! The columns of all tables.

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnId {
    Shard,
    Worker,
    State,
    Workers,
    Requests,
    Refusals,
    P50,
    P90,
    P99,
    InFlight,
    Lag,
    Bucket,
    Newest,
    Hosted,
    Cache,
    Hits,
    Uptime,
    Cpu,
    Memory,
    Files,
    Projects,
    Build,
    Operation,
    Total,
    Code,
}

/// The columns of shards, as they stand.
pub(super) const SHARDS: [ColumnId; 12] = [
    ColumnId::Shard,
    ColumnId::State,
    ColumnId::Workers,
    ColumnId::Requests,
    ColumnId::Refusals,
    ColumnId::P99,
    ColumnId::Lag,
    ColumnId::Bucket,
    ColumnId::Newest,
    ColumnId::Hosted,
    ColumnId::Cache,
    ColumnId::Hits,
];

/// The columns of workers, as they stand.
pub(super) const WORKERS: [ColumnId; 15] = [
    ColumnId::Worker,
    ColumnId::Shard,
    ColumnId::State,
    ColumnId::Requests,
    ColumnId::Refusals,
    ColumnId::P50,
    ColumnId::P99,
    ColumnId::InFlight,
    ColumnId::Lag,
    ColumnId::Uptime,
    ColumnId::Cpu,
    ColumnId::Memory,
    ColumnId::Files,
    ColumnId::Projects,
    ColumnId::Build,
];

/// The columns of operations, as they stand.
pub(super) const OPERATIONS: [ColumnId; 6] = [
    ColumnId::Operation,
    ColumnId::Requests,
    ColumnId::P50,
    ColumnId::P90,
    ColumnId::P99,
    ColumnId::Total,
];

/// The columns of refusals, as they stand.
pub(super) const REFUSALS: [ColumnId; 3] = [ColumnId::Code, ColumnId::Refusals, ColumnId::Total];

impl ColumnId {
    /// The columns from the most important one to that which is left out first.
    const BY_IMPORTANCE: [Self; 25] = [
        Self::Operation,
        Self::Code,
        Self::Worker,
        Self::Shard,
        Self::State,
        Self::Workers,
        Self::Requests,
        Self::Lag,
        Self::P99,
        Self::Bucket,
        Self::Refusals,
        Self::Newest,
        Self::Uptime,
        Self::P50,
        Self::Total,
        Self::InFlight,
        Self::Cpu,
        Self::Memory,
        Self::Hosted,
        Self::Hits,
        Self::Cache,
        Self::P90,
        Self::Build,
        Self::Projects,
        Self::Files,
    ];

    /// The place of the column among all by importance; 0 is the most important one.
    pub fn rank(self) -> usize {
        let place = Self::BY_IMPORTANCE.iter().position(|other| *other == self);

        place.unwrap_or(usize::MAX)
    }

    /// What stands above the column.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Shard => "SHARD",
            Self::Worker => "WORKER",
            Self::State => "STATE",
            Self::Workers => "WORKERS",
            Self::Requests => "REQ/S",
            Self::Refusals => "REFUSED/S",
            Self::P50 => "P50",
            Self::P90 => "P90",
            Self::P99 => "P99",
            Self::InFlight => "IN FLIGHT",
            Self::Lag => "LAG",
            Self::Bucket => "BUCKET",
            Self::Newest => "NEWEST",
            Self::Hosted => "HOSTED",
            Self::Cache => "CACHE",
            Self::Hits => "HITS",
            Self::Uptime => "UPTIME",
            Self::Cpu => "CPU",
            Self::Memory => "MEMORY",
            Self::Files => "FILES",
            Self::Projects => "PROJECTS",
            Self::Build => "BUILD",
            Self::Operation => "OPERATION",
            Self::Total => "TOTAL",
            Self::Code => "REFUSED WITH",
        }
    }

    /// The smallest width, in cells: that of usual values, so that columns do not move about.
    pub fn width_min(self) -> usize {
        match self {
            Self::Shard | Self::Lag | Self::Cpu | Self::Files => 5,
            Self::State => 10,
            Self::Requests | Self::P50 | Self::P90 | Self::P99 => 7,
            Self::Bucket | Self::Cache | Self::Memory => 9,
            Self::Operation => 12,
            Self::Code => 16,
            Self::Total => 8,
            _ => self.heading().len(),
        }
    }

    /// The width to which a column of long texts may be cut, in cells.
    pub fn cut_width(self) -> Option<usize> {
        match self {
            Self::Worker => Some(12),
            Self::Shard | Self::State => Some(14),
            Self::Operation => Some(12),
            Self::Code => Some(16),
            Self::Build => Some(13),
            _ => None,
        }
    }

    /// Returns whether the column has numbers, which stand to the right.
    pub fn is_number(self) -> bool {
        !matches!(
            self,
            Self::Shard
                | Self::Worker
                | Self::State
                | Self::Projects
                | Self::Build
                | Self::Operation
                | Self::Code
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_rank_of_its_own() {
        for columns in [&SHARDS[..], &WORKERS, &OPERATIONS, &REFUSALS] {
            let mut ranks: Vec<usize> = columns.iter().map(|column| column.rank()).collect();
            ranks.sort_unstable();
            ranks.dedup();

            assert_eq!(ranks.len(), columns.len());
            assert!(!ranks.contains(&usize::MAX));
        }
    }
}
