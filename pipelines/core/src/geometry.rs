//! Shapes on the picture. Coordinates are 0..1 of the picture, x to the right, y down.

/// A point, 0..1 of the picture. In configuration and on the wire: `[x, y]`.
#[derive(
    Clone, Copy, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(from = "[f32; 2]", into = "[f32; 2]")]
#[schemars(with = "[f32; 2]")]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

impl Point {
    /// A point at (x, y).
    pub const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }
}

impl From<[f32; 2]> for Point {
    fn from([x, y]: [f32; 2]) -> Self {
        Self { x, y }
    }
}

impl From<Point> for [f32; 2] {
    fn from(p: Point) -> Self {
        [p.x, p.y]
    }
}

/// An axis-parallel box, 0..1 of the picture. On the wire: `[x0, y0, x1, y1]`.
#[derive(Clone, Copy, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "[f32; 4]", into = "[f32; 4]")]
pub struct BBox {
    /// Left.
    pub x0: f32,
    /// Top.
    pub y0: f32,
    /// Right.
    pub x1: f32,
    /// Bottom.
    pub y1: f32,
}

impl From<[f32; 4]> for BBox {
    fn from([x0, y0, x1, y1]: [f32; 4]) -> Self {
        Self { x0, y0, x1, y1 }
    }
}

impl From<BBox> for [f32; 4] {
    fn from(b: BBox) -> Self {
        [b.x0, b.y0, b.x1, b.y1]
    }
}

impl BBox {
    /// The whole picture.
    pub const FULL: Self = Self { x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0 };

    /// From the centre and the sides.
    pub fn from_center(cx: f32, cy: f32, w: f32, h: f32) -> Self {
        Self { x0: cx - w / 2.0, y0: cy - h / 2.0, x1: cx + w / 2.0, y1: cy + h / 2.0 }
    }

    /// Width; never negative.
    pub fn width(&self) -> f32 {
        (self.x1 - self.x0).max(0.0)
    }

    /// Height; never negative.
    pub fn height(&self) -> f32 {
        (self.y1 - self.y0).max(0.0)
    }

    /// Area, in pictures.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The middle.
    pub fn center(&self) -> Point {
        Point::new((self.x0 + self.x1) / 2.0, (self.y0 + self.y1) / 2.0)
    }

    /// The ground point: bottom centre, where the object stands.
    pub fn ground(&self) -> Point {
        Point::new((self.x0 + self.x1) / 2.0, self.y1)
    }

    /// The common part; an empty box where there is none.
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            x0: self.x0.max(other.x0),
            y0: self.y0.max(other.y0),
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
        }
    }

    /// Intersection over union, 0..1; 0 for empty boxes.
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.intersection(other).area();
        let union = self.area() + other.area() - common;
        if union > 0.0 { common / union } else { 0.0 }
    }

    /// Grown on each side by `share` of that side's length (the buffer of buffered IoU).
    pub fn buffered(&self, share: f32) -> Self {
        let (dx, dy) = (self.width() * share, self.height() * share);
        Self { x0: self.x0 - dx, y0: self.y0 - dy, x1: self.x1 + dx, y1: self.y1 + dy }
    }

    /// Cut at the picture's borders; what lies outside shrinks to its border.
    pub fn clipped(&self) -> Self {
        let into = |v: f32| v.clamp(0.0, 1.0);
        Self { x0: into(self.x0), y0: into(self.y0), x1: into(self.x1), y1: into(self.y1) }
    }
}

/// A closed polygon without crossings, at least three corners.
#[derive(Clone, Debug, PartialEq)]
pub struct Polygon {
    corners: Vec<Point>,
}

/// Why points are no polygon or polyline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Fewer points than the shape needs.
    #[error("has {has} points, needs at least {needs}")]
    TooFew {
        /// Points given.
        has: usize,
        /// Points needed.
        needs: usize,
    },
    /// A coordinate outside 0..1.
    #[error("point {index} lies outside the picture: coordinates are 0..1, x then y")]
    Outside {
        /// 1-based.
        index: usize,
    },
    /// Two edges cross.
    #[error("edge {0} crosses edge {1}: list the corners in order round the area")]
    Crossing(usize, usize),
    /// No area (or no length).
    #[error("has no extent: its points lie on one spot or line")]
    Flat,
}

fn check_points(points: &[Point], needs: usize) -> Result<(), ShapeError> {
    if points.len() < needs {
        return Err(ShapeError::TooFew { has: points.len(), needs });
    }
    let inside = |v: f32| (0.0..=1.0).contains(&v);
    match points.iter().position(|p| !inside(p.x) || !inside(p.y)) {
        Some(at) => Err(ShapeError::Outside { index: at + 1 }),
        None => Ok(()),
    }
}

/// Twice the signed area of the triangle a, b, c: > 0 when c lies to the right of someone walking a → b (y is down).
pub fn side(a: Point, b: Point, c: Point) -> f32 {
    (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)
}

/// Whether the open segments a–b and c–d properly cross.
pub fn crosses(a: Point, b: Point, c: Point, d: Point) -> bool {
    let (d1, d2) = (side(a, b, c), side(a, b, d));
    let (d3, d4) = (side(c, d, a), side(c, d, b));
    ((d1 > 0.0 && d2 < 0.0) || (d1 < 0.0 && d2 > 0.0)) && ((d3 > 0.0 && d4 < 0.0) || (d3 < 0.0 && d4 > 0.0))
}

/// Distance from `p` to the segment a–b after scaling x by `aspect` (width over height), so that the unit is
/// picture heights in both directions.
pub fn distance_to_segment(p: Point, a: Point, b: Point, aspect: f32) -> f32 {
    let (px, ax, bx) = (p.x * aspect, a.x * aspect, b.x * aspect);
    let (dx, dy) = (bx - ax, b.y - a.y);
    let length2 = dx * dx + dy * dy;
    let t = if length2 > 0.0 { (((px - ax) * dx + (p.y - a.y) * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
    (px - ax - t * dx).hypot(p.y - a.y - t * dy)
}

impl Polygon {
    /// Checks that there are three or more corners, all in the picture, no edges crossing, and some area.
    pub fn new(corners: Vec<Point>) -> Result<Self, ShapeError> {
        check_points(&corners, 3)?;
        let n = corners.len();
        for i in 0..n {
            for j in i + 1..n {
                if crosses(corners[i], corners[(i + 1) % n], corners[j], corners[(j + 1) % n]) {
                    return Err(ShapeError::Crossing(i + 1, j + 1));
                }
            }
        }
        let polygon = Self { corners };
        if polygon.area() < 1e-6 { Err(ShapeError::Flat) } else { Ok(polygon) }
    }

    /// The corners in order.
    pub fn corners(&self) -> &[Point] {
        &self.corners
    }

    fn edges(&self) -> impl Iterator<Item = (Point, Point)> + '_ {
        let n = self.corners.len();
        (0..n).map(move |i| (self.corners[i], self.corners[(i + 1) % n]))
    }

    /// Area, in pictures.
    pub fn area(&self) -> f32 {
        self.edges().map(|(a, b)| a.x * b.y - b.x * a.y).sum::<f32>().abs() / 2.0
    }

    /// Even-odd test.
    pub fn contains(&self, p: Point) -> bool {
        self.edges().fold(false, |inside, (a, b)| {
            let spans = (a.y > p.y) != (b.y > p.y);
            inside ^ (spans && p.x < (b.x - a.x) * (p.y - a.y) / (b.y - a.y) + a.x)
        })
    }

    /// Signed distance of `p` to the border in picture heights: > 0 inside. `aspect` is width over height.
    ///
    /// A zone that reaches the picture's border goes on beyond it: such edges are no border of the zone, and a point
    /// on or outside the picture counts as just inside it. The feet of someone who is cut off by the lower border
    /// are there (infinitely deep where the zone is the whole picture).
    pub fn depth(&self, p: Point, aspect: f32) -> f32 {
        let into = |v: f32| v.clamp(PICTURE_BORDER, 1.0 - PICTURE_BORDER);
        let p = Point::new(into(p.x), into(p.y));
        let real = self.edges().filter(|(a, b)| !on_picture_border(*a, *b));
        let distance = real.map(|(a, b)| distance_to_segment(p, a, b, aspect)).fold(f32::INFINITY, f32::min);
        if self.contains(p) { distance } else { -distance }
    }
}

/// So near to the picture's border, 0..1 of the picture, is on it.
const PICTURE_BORDER: f32 = 1e-3;

/// Whether the edge a–b runs along the border of the picture.
fn on_picture_border(a: Point, b: Point) -> bool {
    let at = |u: f32, v: f32| {
        (u <= PICTURE_BORDER && v <= PICTURE_BORDER)
            || (u >= 1.0 - PICTURE_BORDER && v >= 1.0 - PICTURE_BORDER)
    };
    at(a.x, b.x) || at(a.y, b.y)
}

/// An open line of two or more points.
#[derive(Clone, Debug, PartialEq)]
pub struct Polyline {
    points: Vec<Point>,
}

impl Polyline {
    /// Checks that there are two or more points, all in the picture, and some length.
    pub fn new(points: Vec<Point>) -> Result<Self, ShapeError> {
        check_points(&points, 2)?;
        if points.windows(2).any(|w| w[0] == w[1]) {
            return Err(ShapeError::Flat);
        }
        Ok(Self { points })
    }

    /// The points in order.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The segments in order.
    pub fn segments(&self) -> impl Iterator<Item = (Point, Point)> + '_ {
        self.points.windows(2).map(|w| (w[0], w[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn square() -> Polygon {
        Polygon::new([[0.2, 0.2], [0.6, 0.2], [0.6, 0.6], [0.2, 0.6]].map(Point::from).to_vec()).unwrap()
    }

    #[test]
    fn shapes_say_what_is_wrong() {
        let p = |points: &[[f32; 2]]| Polygon::new(points.iter().copied().map(Point::from).collect());
        assert_eq!(p(&[[0.0, 0.0], [1.0, 1.0]]).unwrap_err().to_string(), "has 2 points, needs at least 3");
        assert_eq!(p(&[[0.0, 0.0], [1.0, 0.0], [0.5, 1.5]]).unwrap_err(), ShapeError::Outside { index: 3 });
        assert_eq!(
            p(&[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]).unwrap_err(),
            ShapeError::Crossing(1, 3)
        );
        assert_eq!(p(&[[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]).unwrap_err(), ShapeError::Flat);
    }

    #[test]
    fn a_box_outside_the_picture_is_clipped_to_its_border() {
        let gone = BBox::from([1.003, 0.4, 1.05, 0.6]).clipped();
        assert_eq!(gone, BBox::from([1.0, 0.4, 1.0, 0.6]));
    }

    #[test]
    fn depth_is_signed_and_in_picture_heights() {
        let s = square();
        assert!((s.depth(Point::new(0.4, 0.3), 1.0) - 0.1).abs() < 1e-6);
        assert!((s.depth(Point::new(0.1, 0.4), 2.0) + 0.2).abs() < 1e-6);
    }

    #[test]
    fn a_zone_at_the_border_of_the_picture_goes_on_beyond_it() {
        let yard =
            Polygon::new([[0.1, 0.4], [0.9, 0.4], [0.9, 1.0], [0.1, 1.0]].map(Point::from).to_vec()).unwrap();
        assert!((yard.depth(Point::new(0.5, 1.0), 1.0) - 0.4).abs() < 1e-3);
        assert!(yard.depth(Point::new(0.5, 1.2), 1.0) > 0.3);
        assert!(yard.depth(Point::new(0.05, 1.0), 1.0) < 0.0);
    }

    #[test]
    fn right_of_the_walker_is_positive() {
        // Walking to the right on the picture, down is to the right.
        assert!(side(Point::new(0.1, 0.5), Point::new(0.9, 0.5), Point::new(0.5, 0.9)) > 0.0);
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_bounded(a in proptest::array::uniform4(0f32..1.0), b in proptest::array::uniform4(0f32..1.0)) {
            let (a, b) = (BBox::from(a), BBox::from(b));
            prop_assert!((0.0..=1.0001).contains(&a.iou(&b)));
            prop_assert_eq!(a.iou(&b), b.iou(&a));
        }

        #[test]
        fn depth_agrees_with_contains(x in 0f32..1.0, y in 0f32..1.0) {
            let p = Point::new(x, y);
            prop_assert_eq!(square().contains(p), square().depth(p, 1.5) > 0.0 || (square().depth(p, 1.5) == 0.0 && square().contains(p)));
        }
    }
}
