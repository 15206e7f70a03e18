//! What happens to an image on its way to a view: drawn first, then done.

use super::blur::BlurScratch;
use super::crop::CropBox;
use super::planes::Planes;
use super::resample::{Resize, ResizeScratch, Resizes};
use crate::config::{Interpolation, ViewsConfig};
use crate::pixels::Rgb8;
use crate::random::{Draw, Purpose, stream};
use std::cell::RefCell;

/// The number of global views; the rest are local.
pub const GLOBAL_VIEWS: usize = 2;

/// One of the four operations of colour jitter, with its factor (for hue: the shift in turns).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ColourOp {
    /// See [`Planes::adjust_brightness`].
    Brightness(f64),
    /// See [`Planes::adjust_contrast`].
    Contrast(f64),
    /// See [`Planes::adjust_saturation`].
    Saturation(f64),
    /// See [`Planes::adjust_hue`].
    Hue(f64),
}

/// The random choices of one view.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The part of the image that is shown.
    pub crop: CropBox,
    /// Mirror left and right.
    pub flip: bool,
    /// Colour operations in their order; `None` where jitter was not chosen.
    pub jitter: Option<[ColourOp; 4]>,
    /// Turn grey.
    pub grey: bool,
    /// Standard deviation of the blur in pixels, where it was chosen.
    pub blur: Option<f64>,
    /// Solarise.
    pub solarise: bool,
}

/// The parameters that differ between the first global, the second global and the local views.
#[derive(Debug, Clone, PartialEq)]
struct Kind {
    size: usize,
    scale: [f64; 2],
    blur: f64,
    solarise: f64,
}

/// Makes the views of a training image.
///
/// In order: random resized crop, flip, colour jitter (its four operations in random order), grey, blur,
/// solarisation, normalisation.
#[derive(Debug, Clone)]
pub struct Recipe {
    config: ViewsConfig,
    kinds: [Kind; 3],
    mean: [f32; 3],
    std: [f32; 3],
}

impl Recipe {
    /// The recipe for a configuration, which must have been [validated](crate::Config::validate).
    pub fn new(config: &ViewsConfig) -> Self {
        let global = |k: usize| Kind {
            size: config.global_size,
            scale: config.global_scale,
            blur: config.global_blur[k],
            solarise: config.global_solarise[k],
        };
        let local = Kind {
            size: config.local_size,
            scale: config.local_scale,
            blur: config.local_blur,
            solarise: 0.0,
        };
        Self {
            kinds: [global(0), global(1), local],
            mean: config.mean.map(|x| x as f32),
            std: config.std.map(|x| x as f32),
            config: config.clone(),
        }
    }

    /// Views per image: the global ones first, then the local ones.
    pub fn count(&self) -> usize {
        GLOBAL_VIEWS + self.config.local_count
    }

    /// Global views per image.
    pub fn global_count(&self) -> usize {
        GLOBAL_VIEWS
    }

    /// Local views per image.
    pub fn local_count(&self) -> usize {
        self.config.local_count
    }

    /// Side of view number `view` in pixels.
    pub fn size(&self, view: usize) -> usize {
        self.kind(view).size
    }

    /// Floats of view number `view`: `3 * size * size`.
    pub fn view_len(&self, view: usize) -> usize {
        3 * self.size(view) * self.size(view)
    }

    fn kind(&self, view: usize) -> &Kind {
        &self.kinds[view.min(GLOBAL_VIEWS)]
    }

    /// Draws the choices for view number `view` of a `width` x `height` image.
    ///
    /// The order of drawing is part of the format of a run: a resumed run must draw as the first one
    /// did. Every choice takes its words from the stream whether or not it comes to pass, so that
    /// changing one probability leaves the other choices as they were: flip; jitter, brightness,
    /// contrast, saturation, hue, order of the four; grey; blur, its radius; solarisation; at last the
    /// crop, whose number of tries varies.
    pub fn plan(&self, (width, height): (usize, usize), view: usize, draw: &mut impl Draw) -> Plan {
        let (config, kind) = (&self.config, self.kind(view));
        let flip = draw.chance(config.flip);
        let jitter = draw.chance(config.jitter);
        let mut factor = |strength: f64| draw.uniform((1.0 - strength).max(0.0), 1.0 + strength);
        let mut ops = [
            ColourOp::Brightness(factor(config.brightness)),
            ColourOp::Contrast(factor(config.contrast)),
            ColourOp::Saturation(factor(config.saturation)),
            ColourOp::Hue(draw.uniform(-config.hue, config.hue)),
        ];
        draw.shuffle(&mut ops);
        let grey = draw.chance(config.grey);
        let blur = draw.chance(kind.blur);
        let radius = draw.uniform(config.blur_radius[0], config.blur_radius[1]);
        let solarise = draw.chance(kind.solarise);
        Plan {
            crop: CropBox::random((width, height), kind.scale, config.ratio, draw),
            flip,
            jitter: jitter.then_some(ops),
            grey,
            blur: blur.then_some(radius),
            solarise,
        }
    }

    /// Writes view number `view` of sample number `sample` in an epoch: `[3, size, size]`, normalised.
    /// The same arguments give the same view, on any thread of any machine.
    ///
    /// # Panics
    /// If `out` is not [`Recipe::view_len`] long.
    pub fn make(
        &self,
        image: &Rgb8,
        seed: u64,
        epoch: u64,
        sample: u64,
        view: usize,
        out: &mut [f32],
    ) {
        self.make_from(view, image, seed, epoch, sample, &mut [out]);
    }

    /// Writes all views of a sample, each as [`Recipe::make`] does but in less time: what they share is
    /// done once.
    ///
    /// # Panics
    /// If `outs` are not [`Recipe::count`] many, or one is not [`Recipe::view_len`] long.
    pub fn make_all(
        &self,
        image: &Rgb8,
        seed: u64,
        epoch: u64,
        sample: u64,
        outs: &mut [&mut [f32]],
    ) {
        assert_eq!(outs.len(), self.count(), "places for the views of a sample");
        self.make_from(0, image, seed, epoch, sample, outs);
    }

    /// Writes the views from number `first` on.
    fn make_from(
        &self,
        first: usize,
        image: &Rgb8,
        seed: u64,
        epoch: u64,
        sample: u64,
        outs: &mut [&mut [f32]],
    ) {
        thread_local! {
            // Half a megabyte per view: allocated anew each time, the page faults would cost as much as
            // the resize.
            static SCRATCH: RefCell<Scratch> = RefCell::default();
        }
        let size = (image.width(), image.height());
        let plans: Vec<(Plan, usize)> = (first..first + outs.len())
            .map(|view| {
                let mut draw = stream(seed, Purpose::View, [epoch, sample, view as u64]);
                (self.plan(size, view, &mut draw), self.size(view))
            })
            .collect();
        let resizes: Vec<Resize> = plans
            .iter()
            .map(|(plan, size)| Resize {
                source: plan.crop,
                size: (*size, *size),
                window: CropBox::whole(*size, *size),
                flip: plan.flip,
                filter: self.config.interpolation,
            })
            .collect();
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch {
                resize,
                planes,
                blur,
            } = scratch;
            let mut resizes = Resizes::new(image, &resizes, resize);
            for (number, ((plan, _), out)) in plans.iter().zip(outs).enumerate() {
                resizes.make(number, planes);
                self.recolour(plan, planes, blur);
                planes.normalise(self.mean, self.std, out);
            }
        });
    }

    /// Everything between the resize and the normalisation.
    fn recolour(&self, plan: &Plan, planes: &mut Planes, blur: &mut BlurScratch) {
        for op in plan.jitter.iter().flatten() {
            self.colour(*op, planes);
        }
        if plan.grey {
            planes.greyscale();
        }
        if let Some(radius) = plan.blur {
            planes.blur_with(radius as f32, blur);
        }
        if plan.solarise {
            planes.solarise();
        }
    }

    /// An operation whose strength is configured as 0 is left out, as torchvision does: a hue shift of
    /// zero would still cost a rounding.
    fn colour(&self, op: ColourOp, planes: &mut Planes) {
        let config = &self.config;
        match op {
            ColourOp::Brightness(x) if config.brightness > 0.0 => {
                planes.adjust_brightness(x as f32)
            }
            ColourOp::Contrast(x) if config.contrast > 0.0 => planes.adjust_contrast(x as f32),
            ColourOp::Saturation(x) if config.saturation > 0.0 => {
                planes.adjust_saturation(x as f32)
            }
            ColourOp::Hue(x) if config.hue > 0.0 => planes.adjust_hue(x),
            _ => {}
        }
    }
}

#[derive(Default)]
struct Scratch {
    planes: Planes,
    resize: ResizeScratch,
    blur: BlurScratch,
}

/// Crops `image` and resizes the crop to `width` x `height`, antialiased, as torchvision's
/// `resized_crop` on a Pillow image does.
///
/// # Panics
/// If the crop is empty or leaves the image, or the result would be empty.
pub fn resized_crop(
    image: &Rgb8,
    crop: CropBox,
    (width, height): (usize, usize),
    filter: Interpolation,
) -> Planes {
    assert!(
        crop.width > 0
            && crop.height > 0
            && crop.left + crop.width <= image.width()
            && crop.top + crop.height <= image.height(),
        "{crop:?} of {image:?}"
    );
    assert!(width > 0 && height > 0, "a {width} x {height} result");
    let mut planes = Planes::default();
    let resize = Resize {
        source: crop,
        size: (width, height),
        window: CropBox::whole(width, height),
        flip: false,
        filter,
    };
    resize.apply(image, &mut ResizeScratch::default(), &mut planes);
    planes
}
