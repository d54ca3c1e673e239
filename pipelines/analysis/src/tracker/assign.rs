//! The linear assignment problem: which track gets which detection so that the sum of costs is smallest.
//!
//! Owns: the solver (shortest augmenting paths with potentials, the Hungarian method in the form of Jonker and
//! Volgenant, Computing 38, 1987; O(rows² · columns)). Does not know: boxes, tracks, time.

/// Costs of pairing `rows` things with `columns` things, row by row. Every entry is finite.
#[derive(Debug, Clone)]
pub(crate) struct Costs {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Costs {
    /// All pairs cost `value`.
    pub(crate) fn filled(rows: usize, columns: usize, value: f64) -> Self {
        Self { rows, columns, values: vec![value; rows * columns] }
    }

    /// What pairing `row` with `column` costs; a value that is not finite leaves what stood there.
    pub(crate) fn set(&mut self, row: usize, column: usize, value: f64) {
        if value.is_finite() {
            self.values[row * self.columns + column] = value;
        }
    }

    fn get(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    fn transposed(&self) -> Self {
        let mut other = Self::filled(self.columns, self.rows, 0.0);
        for row in 0..self.rows {
            for column in 0..self.columns {
                other.values[column * self.rows + row] = self.get(row, column);
            }
        }
        other
    }
}

/// The cheapest pairs (row, column) in order of rows, where leaving a row and a column alone costs `limit`: a pair
/// that costs `limit` or more is never made.
pub(crate) fn assign(costs: &Costs, limit: f64) -> Vec<(usize, usize)> {
    let gain = |costs: &Costs| {
        let mut gains = costs.clone();
        for value in &mut gains.values {
            *value = (*value - limit).min(0.0);
        }
        gains
    };
    let kept = |&(row, column): &(usize, usize)| costs.get(row, column) < limit;
    if costs.rows <= costs.columns {
        solve(&gain(costs)).into_iter().enumerate().filter(kept).collect()
    } else {
        let mut pairs: Vec<_> = solve(&gain(&costs.transposed()))
            .into_iter()
            .enumerate()
            .map(|(c, r)| (r, c))
            .filter(kept)
            .collect();
        pairs.sort_unstable();
        pairs
    }
}

/// The column of each row of the cheapest complete assignment; needs rows ≤ columns.
fn solve(costs: &Costs) -> Vec<usize> {
    let (n, m) = (costs.rows, costs.columns);
    // Index 0 of each list is a dummy, so rows and columns count from 1 here.
    let (mut row_price, mut column_price) = (vec![0.0; n + 1], vec![0.0; m + 1]);
    let mut row_of = vec![0usize; m + 1];
    for row in 1..=n {
        row_of[0] = row;
        let (mut column, mut way) = (0, vec![0usize; m + 1]);
        let (mut slack, mut used) = (vec![f64::INFINITY; m + 1], vec![false; m + 1]);
        while row_of[column] != 0 {
            used[column] = true;
            let (from, mut step, mut next) = (row_of[column], f64::INFINITY, 0);
            for c in (1..=m).filter(|&c| !used[c]) {
                let reduced = costs.get(from - 1, c - 1) - row_price[from] - column_price[c];
                if reduced < slack[c] {
                    (slack[c], way[c]) = (reduced, column);
                }
                if slack[c] < step {
                    (step, next) = (slack[c], c);
                }
            }
            for c in 0..=m {
                if used[c] {
                    row_price[row_of[c]] += step;
                    column_price[c] -= step;
                } else {
                    slack[c] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[way[column]];
            column = way[column];
        }
    }
    let mut columns = vec![0; n];
    for c in 1..=m {
        if row_of[c] != 0 {
            columns[row_of[c] - 1] = c - 1;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The smallest total by trying everything.
    fn brute(costs: &Costs, limit: f64, row: usize, taken: u32) -> f64 {
        if row == costs.rows {
            return 0.0;
        }
        let alone = limit + brute(costs, limit, row + 1, taken);
        (0..costs.columns)
            .filter(|c| taken & (1 << c) == 0)
            .map(|c| costs.get(row, c) + brute(costs, limit, row + 1, taken | (1 << c)))
            .fold(alone, f64::min)
    }

    #[test]
    fn nothing_to_pair_gives_nothing() {
        assert_eq!(assign(&Costs::filled(0, 3, 0.0), 1.0), []);
        assert_eq!(assign(&Costs::filled(3, 0, 0.0), 1.0), []);
        assert_eq!(assign(&Costs::filled(2, 2, 1.0), 1.0), []);
    }

    proptest! {
        #[test]
        fn as_cheap_as_trying_everything(
            rows in 0usize..6, columns in 0usize..6, values in proptest::collection::vec(0u8..12, 36), limit in 1u8..12,
        ) {
            let mut costs = Costs::filled(rows, columns, 0.0);
            for row in 0..rows {
                for column in 0..columns {
                    costs.set(row, column, f64::from(values[row * 6 + column]));
                }
            }
            let limit = f64::from(limit);
            let pairs = assign(&costs, limit);
            let mut seen_columns: Vec<_> = pairs.iter().map(|p| p.1).collect();
            seen_columns.sort_unstable();
            seen_columns.dedup();
            prop_assert_eq!(seen_columns.len(), pairs.len());
            prop_assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0));
            let total: f64 = pairs.iter().map(|&(r, c)| costs.get(r, c)).sum::<f64>()
                + limit * (rows - pairs.len()) as f64;
            prop_assert!((total - brute(&costs, limit, 0, 0)).abs() < 1e-9);
        }
    }
}
