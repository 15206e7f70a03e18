//! Colours that are told apart, of few things and of many.

/// Few things: Okabe and Ito's colours (2008), which the colour-blind can tell apart too, and two more of like strength.
const FEW: [[u8; 3]; 9] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [120, 94, 60],
    [90, 90, 96],
    [150, 60, 150],
];

/// The colour of thing `index` of `count`. Of more than nine, hues go round the circle by the golden angle, so that
/// neighbouring numbers differ most, at three levels of brightness.
pub fn colour(index: usize, count: usize) -> [u8; 3] {
    if count <= FEW.len() {
        return FEW[index % FEW.len()];
    }
    const GOLDEN: f64 = 0.381_966_011_250_105_1;
    const LEVELS: [(f64, f64); 3] = [(0.75, 0.85), (0.9, 0.6), (0.5, 0.95)];
    let hue = (index as f64 * GOLDEN).fract() * 6.0;
    let (saturation, value) = LEVELS[index % LEVELS.len()];
    // Hue, saturation, value to red, green, blue: the usual formula in one line per channel.
    [5.0, 3.0, 1.0].map(|shift| {
        let k: f64 = (shift + hue) % 6.0;
        let part = k.min(4.0 - k).clamp(0.0, 1.0);
        (255.0 * (value - value * saturation * part)).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_of_a_hundred_are_equal() {
        for count in [1, 9, 10, 100] {
            let all: HashSet<[u8; 3]> = (0..count).map(|index| colour(index, count)).collect();
            assert_eq!(all.len(), count);
            // None disappears on white paper.
            assert!(
                all.iter()
                    .all(|rgb| rgb.iter().any(|&channel| channel < 160))
            );
        }
        // Red at hue 0: value 0.85, saturation 0.75.
        assert_eq!(colour(0, 10), [217, 54, 54]);
    }
}
