//! The linear assignment problem: give each row a column of its own so that the weights add up to most.

/// Matches every row with a different column so that the sum of the weights is largest.
///
/// `fill(row, weights)` writes the weights of `row`, one per column; it is called repeatedly, so that a sparse
/// matrix needs no dense copy. Returns the column of each row.
///
/// Shortest augmenting paths with dual variables (Jonker and Volgenant 1987, in the rectangular form of Crouse:
/// "On implementing 2D rectangular assignment algorithms", 2016): O(rows^2 columns) time, O(rows + columns) space.
/// Deterministic: among equally short paths a free column comes first, then the lowest column.
///
/// Exact as long as `4 * rows * max |weight|`, or four times the largest sum of a matching where that is less,
/// fits in an `i64`.
///
/// # Panics
/// If there are more rows than columns: the caller transposes.
pub fn maximise(rows: usize, columns: usize, fill: impl Fn(usize, &mut [i64])) -> Vec<usize> {
    assert!(
        rows <= columns,
        "{rows} rows need as many columns, not {columns}"
    );
    let mut search = Search {
        row_price: vec![0; rows],
        column_price: vec![0; columns],
        owner: vec![None; columns],
        column_of: vec![usize::MAX; rows],
        distance: vec![0; columns],
        from: vec![0; columns],
        remaining: Vec::with_capacity(columns),
        weights: vec![0; columns],
    };
    for row in 0..rows {
        search.insert(row, &fill);
    }
    search.column_of
}

struct Search {
    /// Dual variables: `cost - row_price - column_price >= 0`, with equality on matched pairs (cost = -weight).
    row_price: Vec<i64>,
    column_price: Vec<i64>,
    /// The row matched with each column.
    owner: Vec<Option<usize>>,
    column_of: Vec<usize>,
    /// Length of the shortest path found to each column, and the row before it.
    distance: Vec<i64>,
    from: Vec<usize>,
    /// Columns whose distance is not final.
    remaining: Vec<usize>,
    weights: Vec<i64>,
}

impl Search {
    /// Matches one more row, re-matching others along the shortest path to a free column.
    fn insert(&mut self, source: usize, fill: &impl Fn(usize, &mut [i64])) {
        self.distance.fill(i64::MAX);
        self.remaining.clear();
        self.remaining.extend(0..self.column_price.len());
        // Columns with a final distance, the free one last.
        let mut settled = Vec::new();
        let mut row = source;
        let mut reached = 0;
        let sink = loop {
            fill(row, &mut self.weights);
            let place = self.relax(row, reached);
            let column = self.remaining.swap_remove(place);
            reached = self.distance[column];
            match self.owner[column] {
                None => break column,
                Some(owner) => {
                    settled.push(column);
                    row = owner;
                }
            }
        };
        self.row_price[source] += reached;
        for column in settled {
            let slack = reached - self.distance[column];
            self.column_price[column] -= slack;
            if let Some(owner) = self.owner[column] {
                self.row_price[owner] += slack;
            }
        }
        self.augment(source, sink);
    }

    /// Shortens distances over `row`, itself at distance `reached`, and returns the place in `remaining` of the
    /// nearest column.
    fn relax(&mut self, row: usize, reached: i64) -> usize {
        let base = reached - self.row_price[row];
        let mut best = (i64::MAX, true, usize::MAX);
        let mut best_place = 0;
        for (place, &column) in self.remaining.iter().enumerate() {
            let distance = base - self.weights[column] - self.column_price[column];
            if distance < self.distance[column] {
                self.distance[column] = distance;
                self.from[column] = row;
            }
            let distance = self.distance[column];
            if distance <= best.0 {
                let candidate = (distance, self.owner[column].is_some(), column);
                if candidate < best {
                    best = candidate;
                    best_place = place;
                }
            }
        }
        best_place
    }

    fn augment(&mut self, source: usize, sink: usize) {
        let mut column = sink;
        loop {
            let row = self.from[column];
            self.owner[column] = Some(row);
            let previous = std::mem::replace(&mut self.column_of[row], column);
            if row == source {
                return;
            }
            column = previous;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute_force(weights: &[Vec<i64>], row: usize, used: &mut Vec<bool>) -> i64 {
        if row == weights.len() {
            return 0;
        }
        let mut best = i64::MIN;
        for column in 0..used.len() {
            if !used[column] {
                used[column] = true;
                best = best.max(weights[row][column] + brute_force(weights, row + 1, used));
                used[column] = false;
            }
        }
        best
    }

    fn matrices() -> impl Strategy<Value = Vec<Vec<i64>>> {
        (1usize..=5, 0usize..=3, 1i64..=1_000_000).prop_flat_map(|(rows, more, size)| {
            // Small `size` makes ties frequent.
            prop::collection::vec(prop::collection::vec(-size..=size, rows + more), rows)
        })
    }

    proptest! {
        #[test]
        fn equals_brute_force(weights in matrices()) {
            let columns = weights[0].len();
            let chosen = maximise(weights.len(), columns, |row, out| out.copy_from_slice(&weights[row]));
            let mut seen = vec![false; columns];
            let mut total = 0;
            for (row, &column) in chosen.iter().enumerate() {
                prop_assert!(!seen[column], "column {} twice", column);
                seen[column] = true;
                total += weights[row][column];
            }
            prop_assert_eq!(total, brute_force(&weights, 0, &mut vec![false; columns]));
        }

        #[test]
        fn small_weights_with_many_ties(
            weights in (1usize..=5, 0usize..=3).prop_flat_map(|(rows, more)| {
                prop::collection::vec(prop::collection::vec(0i64..=2, rows + more), rows)
            })
        ) {
            let columns = weights[0].len();
            let chosen = maximise(weights.len(), columns, |row, out| out.copy_from_slice(&weights[row]));
            let total: i64 = chosen.iter().enumerate().map(|(row, &column)| weights[row][column]).sum();
            prop_assert_eq!(total, brute_force(&weights, 0, &mut vec![false; columns]));
        }
    }

    #[test]
    fn no_rows_need_no_columns() {
        assert!(maximise(0, 3, |_, _| ()).is_empty());
    }
}
