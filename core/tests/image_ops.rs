//! Every image operation against what Pillow 13.0.0 and torchvision 0.24.0 made of the same pixels.
//!
//! The fixture holds, as `<image>.<operation>[.<parameter>]`, uint8 `[height, width, 3]`; resized crops are
//! named by top, left, height, width and size, evaluation crops by resize and crop.
#![allow(clippy::unwrap_used)]

use safetensors::SafeTensors;
use selfcls_core::config::Interpolation;
use selfcls_core::pixels::Rgb8;
use selfcls_core::preprocess::Preprocess;
use selfcls_core::views::{CropBox, Planes, resized_crop};
use std::collections::BTreeMap;

const FIXTURE: &[u8] = include_bytes!("fixtures/image_ops.safetensors");
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn image(tensors: &SafeTensors, name: &str) -> Rgb8 {
    let tensor = tensors.tensor(name).unwrap();
    let [height, width, 3] = *tensor.shape() else {
        panic!("{name} is {:?}", tensor.shape());
    };
    Rgb8::new(width, height, tensor.data().to_vec()).unwrap()
}

fn filter(name: &str) -> Interpolation {
    if name.ends_with("bicubic") {
        Interpolation::Bicubic
    } else {
        Interpolation::Bilinear
    }
}

/// Applies the operation that `name` describes; `None` if it describes none.
fn apply(input: &Rgb8, name: &str) -> Option<Planes> {
    let (operation, parameter) = name.split_once('.').unwrap_or((name, ""));
    let mut planes = Planes::from_rgb(input);
    let factor = || parameter.parse::<f64>().unwrap();
    let numbers = || parameter.split('_').map(|x| x.parse::<usize>().unwrap());
    match operation {
        "brightness" => planes.adjust_brightness(factor() as f32),
        "contrast" => planes.adjust_contrast(factor() as f32),
        "saturation" => planes.adjust_saturation(factor() as f32),
        "hue" => planes.adjust_hue(factor()),
        "gray3" => planes.greyscale(),
        "solarize128" => planes.solarise(),
        "hflip" => planes.flip_horizontally(),
        "blur" => planes.blur(factor() as f32),
        "resized_crop_bicubic" | "resized_crop_bilinear" => {
            let [top, left, height, width, size] = *numbers().collect::<Vec<_>>() else {
                panic!("{name}");
            };
            let crop = CropBox {
                left,
                top,
                width,
                height,
            };
            planes = resized_crop(input, crop, (size, size), filter(operation));
        }
        _ => return None,
    }
    Some(planes)
}

#[test]
fn equal_to_pillow_to_the_bit() {
    let tensors = SafeTensors::deserialize(FIXTURE).unwrap();
    let mut compared = BTreeMap::new();
    for full_name in tensors.names() {
        let (source, name) = full_name.split_once('.').unwrap();
        let input = image(&tensors, &format!("{source}.in"));
        let Some(ours) = apply(&input, name) else {
            continue;
        };
        let expected = image(&tensors, full_name);
        let ours = ours.to_rgb().unwrap();
        assert_eq!(
            (ours.width(), ours.height()),
            (expected.width(), expected.height())
        );
        let wrong = ours
            .data()
            .iter()
            .zip(expected.data())
            .filter(|(a, b)| a != b)
            .count();
        assert_eq!(
            wrong,
            0,
            "{full_name}: {wrong} of {} bytes differ",
            ours.data().len()
        );
        *compared.entry(name.split('.').next().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(compared.len(), 10, "operations covered: {compared:?}");
}

#[test]
fn normalisation_equals_torchvision() {
    let tensors = SafeTensors::deserialize(FIXTURE).unwrap();
    let planes = Planes::from_rgb(&image(&tensors, "photo.in"));
    let mut ours = vec![0.0; planes.data().len()];
    planes.normalise(MEAN, STD, &mut ours);
    let expected = tensors.tensor("photo.normalised").unwrap();
    assert_eq!(expected.data().len(), 4 * ours.len());
    for (ours, expected) in ours.iter().zip(expected.data().as_chunks::<4>().0) {
        let expected = f32::from_le_bytes(*expected);
        assert!((ours - expected).abs() < 1e-6, "{ours} {expected}");
    }
}

#[test]
fn preprocessing_equals_the_crop_of_the_whole_resized_image() {
    let tensors = SafeTensors::deserialize(FIXTURE).unwrap();
    let input = image(&tensors, "photo.in");
    let mut compared = 0;
    for name in tensors.names() {
        let Some(rest) = name.strip_prefix("photo.eval_") else {
            continue;
        };
        let (interpolation, sizes) = rest.split_once('.').unwrap();
        let (resize, crop) = sizes.split_once('_').unwrap();
        let preprocess = Preprocess {
            resize: resize.parse().unwrap(),
            crop: crop.parse().unwrap(),
            interpolation: filter(interpolation),
            mean: MEAN,
            std: STD,
        };
        preprocess.validate().unwrap();
        let mut expected = vec![0.0; preprocess.input_len()];
        Planes::from_rgb(&image(&tensors, name)).normalise(MEAN, STD, &mut expected);
        assert_eq!(preprocess.input(&input), expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 4);
}
