//! Until core's own lands.
use selfcls_core::pixels::Rgb8;
use selfcls_core::preprocess::Preprocess;
pub(super) trait Apply {
    fn apply(&self, image: &Rgb8, out: &mut [f32]);
}
impl Apply for Preprocess {
    fn apply(&self, image: &Rgb8, out: &mut [f32]) {
        let (w, h) = (image.width(), image.height());
        let n = self.crop;
        for y in 0..n {
            for x in 0..n {
                let (sx, sy) = (x * w / n, y * h / n);
                for c in 0..3 {
                    let v = f32::from(image.data()[(sy * w + sx) * 3 + c]) / 255.0;
                    out[(c * n + y) * n + x] = (v - self.mean[c]) / self.std[c];
                }
            }
        }
    }
}
