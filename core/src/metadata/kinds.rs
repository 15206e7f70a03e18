//! The choices that an exported file makes: what it takes, and how it stores weights.

/// What the network's input takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputKind {
    /// `f32 [batch, 3, crop, crop]`: resized, cropped, scaled and normalised, as torchvision exports.
    #[default]
    Float,
    /// `u8 [batch, crop, crop, 3]`: the RGB bytes of resized and cropped images.
    Uint8,
    /// `u8 [batch, height, width, 3]`: the RGB bytes of images of any size, equal within a batch.
    Any,
}

/// How weights of two axes and more are stored. Everything is computed in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightKind {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits: half the file, each weight within 1 part in 2,048 (or 3e-8, for the smallest).
    F16,
}

/// Text of a value of an enum without fields, both ways.
macro_rules! words {
    ($name:ident: $($variant:ident = $word:literal),+) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is not one of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

words!(InputKind: Float = "float", Uint8 = "uint8", Any = "any");
words!(WeightKind: F32 = "f32", F16 = "f16");
