//! The points of a dense detector: a grid for each stride, row after row, fine strides first. Pure.

use super::{InputSize, ShapeMismatch, shape};

/// One point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Column of its grid.
    pub column: f32,
    /// Row of its grid.
    pub row: f32,
    /// Input pixels from one column or row to the next.
    pub stride: f32,
}

/// How many points an input has. An error: strides that make no grids.
pub(super) fn count(strides: &[usize], input: InputSize) -> Result<usize, ShapeMismatch> {
    if strides.is_empty() || strides.len() > 16 || strides.iter().any(|stride| !(1..=4096).contains(stride)) {
        return Err(shape::mismatch("family.strides", "1 to 16 numbers of 1 to 4096", None));
    }
    let points =
        |stride: &usize| input.width.div_ceil(*stride).saturating_mul(input.height.div_ceil(*stride));
    Ok(strides.iter().map(points).fold(0, usize::saturating_add))
}

/// Every point, in the order of a network's outputs.
pub(super) fn points(strides: &[usize], input: InputSize) -> impl Iterator<Item = Point> {
    strides.iter().flat_map(move |&stride| {
        let (columns, rows) = (input.width.div_ceil(stride), input.height.div_ceil(stride));
        (0..rows).flat_map(move |row| {
            (0..columns).map(move |column| Point {
                column: column as f32,
                row: row as f32,
                stride: stride as f32,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_networks_have_the_known_number_of_points() {
        let square = |side| InputSize { width: side, height: side };
        assert_eq!(count(&[8, 16, 32], square(640)), Ok(8400));
        assert_eq!(count(&[8, 16, 32, 64], square(416)), Ok(3598));
        assert!(count(&[], square(416)).is_err() && count(&[0], square(416)).is_err());
        assert_eq!(points(&[8, 16, 32, 64], square(416)).count(), 3598);
    }

    #[test]
    fn points_go_row_by_row_and_stride_by_stride() {
        let all: Vec<_> = points(&[8, 16], InputSize { width: 24, height: 16 }).collect();
        let point = |column, row, stride| Point { column, row, stride };
        assert_eq!((all.len(), all[1], all[3]), (8, point(1.0, 0.0, 8.0), point(0.0, 1.0, 8.0)));
        // 24 pixels are two columns of 16: the last one is cut.
        assert_eq!(all[7], point(1.0, 0.0, 16.0));
    }
}
