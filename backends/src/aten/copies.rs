//! Values to a GPU and numbers back that nobody waits for before they are needed: the functions of `copies.cpp`.
//!
//! What burn does for both waits until the device has done all that it was given before.
#![allow(
    unsafe_code,
    reason = "one of the places where this workspace calls foreign functions"
)]

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use super::ffi::Result;
use crate::message;

/// `selfcls_reading` of `copies.cpp`.
#[repr(C)]
struct RawReading {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn selfcls_stage(
        values: *const c_void,
        count: i64,
        integers: bool,
        for_gpu: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn selfcls_send(staged: *const C_tensor, gpu: i64, out: *mut *mut C_tensor) -> *mut c_char;
    fn selfcls_peak_memory(gpu: i64, forget: bool, most: *mut i64) -> *mut c_char;
    fn selfcls_begin_read(tensor: *const C_tensor, out: *mut *mut RawReading) -> *mut c_char;
    fn selfcls_finish_read(reading: *const RawReading, values: *mut f32, count: i64)
    -> *mut c_char;
    fn selfcls_free_reading(reading: *mut RawReading);
}

/// A type of number that can be uploaded.
pub(super) trait Number: Copy {
    /// As libtorch calls it.
    const KIND: Kind;
}

impl Number for f32 {
    const KIND: Kind = Kind::Float;
}

impl Number for i64 {
    const KIND: Kind = Kind::Int64;
}

/// What a function of `copies.cpp` returned and put into `out`.
///
/// # Safety
/// Where nothing was thrown, `out` is a tensor that was allocated for us, and to which nobody else has a pointer.
unsafe fn tensor(thrown: *mut c_char, out: *mut C_tensor) -> Result<Tensor> {
    // SAFETY: what a function of `copies.cpp` has just returned.
    unsafe { message::answer(thrown) }?;
    // SAFETY: as the caller promises.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// Values that wait in the host's memory for a device.
pub(super) struct Staged {
    values: Tensor,
    device: Device,
}

impl Staged {
    /// A copy of `values` for `device`.
    pub(super) fn new<T: Number>(values: &[T], device: Device) -> Result<Self> {
        let mut out = null_mut();
        let (start, integers) = (values.as_ptr().cast(), T::KIND == Kind::Int64);
        let (count, for_gpu) = (values.len() as i64, device.is_cuda());
        // SAFETY: `values` are as many numbers of 4 or 8 bytes as is said, and are copied before this returns.
        let thrown = unsafe { selfcls_stage(start, count, integers, for_gpu, &raw mut out) };
        // SAFETY: `selfcls_stage` allocates what it puts there.
        let values = unsafe { tensor(thrown, out) }?;
        Ok(Self { values, device })
    }

    /// The values on their device, `[values]`: a GPU may still be fetching them.
    pub(super) fn send(self) -> Result<Tensor> {
        let Device::Cuda(gpu) = self.device else {
            return Ok(self.values);
        };
        let mut out = null_mut();
        // SAFETY: the pointer is to a live tensor, which is only read.
        let thrown = unsafe { selfcls_send(self.values.as_ptr(), gpu as i64, &raw mut out) };
        // SAFETY: `selfcls_send` allocates what it puts there.
        unsafe { tensor(thrown, out) }
    }
}

/// `values` on `device`, `[values]`: a GPU may still be fetching them.
pub(super) fn upload<T: Number>(values: &[T], device: Device) -> Result<Tensor> {
    Staged::new(values, device)?.send()
}

/// The most bytes of a GPU's memory that tensors had at once since this was last forgotten. With `forget` that begins
/// anew, with what they have now.
pub(crate) fn peak_memory(gpu: usize, forget: bool) -> Result<u64> {
    let mut most = 0;
    // SAFETY: the integer outlives the call.
    let thrown = unsafe { selfcls_peak_memory(gpu as i64, forget, &raw mut most) };
    // SAFETY: what a function of `copies.cpp` has just returned.
    unsafe { message::answer(thrown) }?;
    Ok(u64::try_from(most).unwrap_or_default())
}

/// Numbers on their way to the host.
pub(super) struct Reading {
    raw: *mut RawReading,
    count: usize,
}

// SAFETY: the C++ side is a tensor and an event, which belong to no thread; nobody else has the pointer.
unsafe impl Send for Reading {}

impl Reading {
    /// Begins to read a tensor of f32, behind what its device was given so far.
    pub(super) fn begin(tensor: &Tensor) -> Result<Self> {
        let mut raw = null_mut();
        // SAFETY: the pointer is to a live tensor, which is only read.
        let thrown = unsafe { selfcls_begin_read(tensor.as_ptr(), &raw mut raw) };
        // SAFETY: what a function of `copies.cpp` has just returned.
        unsafe { message::answer(thrown) }?;
        let count = tensor.numel();
        Ok(Self { raw, count })
    }

    /// Waits for the numbers.
    pub(super) fn finish(self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.count];
        // SAFETY: `raw` is what `begin` was given and lives until `drop`; `values` has room for `count`.
        let thrown =
            unsafe { selfcls_finish_read(self.raw, values.as_mut_ptr(), self.count as i64) };
        // SAFETY: what a function of `copies.cpp` has just returned.
        unsafe { message::answer(thrown) }?;
        Ok(values)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // SAFETY: allocated for us by `begin`, freed once.
        unsafe { selfcls_free_reading(self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_devices::{on_devices, tch_device};

    on_devices!(
        values_go_and_come_back,
        a_busy_device_reads_what_was_given,
        a_reading_nobody_waits_for_is_no_leak_of_the_device,
        values_are_staged_on_another_thread,
        memory_of_a_device_is_counted,
    );

    /// On the CPU the same functions copy at once; a GPU is only told to.
    fn values_go_and_come_back(device: &burn::tensor::Device) {
        let device = tch_device(device);
        let values: Vec<f32> = (0..1000).map(|n| n as f32 / 7.0).collect();
        let tensor = upload(&values, device).expect("uploads");
        assert_eq!((tensor.size(), tensor.kind()), (vec![1000], Kind::Float));
        assert_eq!(tensor.device(), device);
        let reading = Reading::begin(&tensor).expect("begins");
        // What happens to the tensor afterwards is not read.
        let _changed = tensor.shallow_clone().fill_(0.0);
        assert_eq!(reading.finish().expect("arrives"), values);
        let spaced = upload(&values, device)
            .expect("uploads")
            .slice(0, 0, 1000, 3);
        let reading = Reading::begin(&spaced).expect("begins");
        let every_third: Vec<f32> = values.iter().copied().step_by(3).collect();
        assert_eq!(reading.finish().expect("arrives"), every_third);
        let ints = upload(&[i64::MIN, 0, 7], device).expect("uploads");
        assert_eq!(
            Vec::<i64>::try_from(ints).expect("integers"),
            [i64::MIN, 0, 7]
        );
        assert_eq!(upload::<f32>(&[], device).expect("uploads").numel(), 0);
    }

    /// Values wait on the host behind work that takes the device longer than the host takes to bring more: none may go
    /// over those before it, and a number is that of the moment at which its reading began.
    fn a_busy_device_reads_what_was_given(device: &burn::tensor::Device) {
        let device = tch_device(device);
        let side = if device.is_cuda() { 4096 } else { 64 };
        let mut matrix = Tensor::ones([side, side], (Kind::Float, device));
        let mut readings = Vec::new();
        for round in 0..50_u16 {
            matrix = matrix.matmul(&matrix) / side as f64;
            let values = vec![f32::from(round); 1 << 16];
            let mut tensor = upload(&values, device).expect("uploads");
            readings.push(Reading::begin(&tensor).expect("begins"));
            let _overwritten = tensor.fill_(-1.0);
        }
        for (round, reading) in (0..50_u16).zip(readings) {
            let values = reading.finish().expect("arrives");
            assert!(values.iter().all(|&value| value == f32::from(round)));
        }
        assert_eq!(matrix.double_value(&[0, 0]), 1.0);
    }

    fn a_reading_nobody_waits_for_is_no_leak_of_the_device(device: &burn::tensor::Device) {
        let tensor = upload(&[1.0_f32], tch_device(device)).expect("uploads");
        drop(Reading::begin(&tensor).expect("begins"));
        assert_eq!(tensor.double_value(&[0]), 1.0);
    }

    fn values_are_staged_on_another_thread(device: &burn::tensor::Device) {
        let device = tch_device(device);
        let values: Vec<f32> = (0..1000).map(|n| n as f32 / 7.0).collect();
        let source = values.clone();
        let staged = std::thread::spawn(move || Staged::new(&source, device).expect("stages"));
        let staged = staged.join().expect("no panic");
        assert_eq!(staged.values.device(), Device::Cpu);
        assert!(!device.is_cuda() || staged.values.is_pinned(device));
        let tensor = staged.send().expect("uploads");
        assert_eq!(tensor.device(), device);
        assert_eq!(Vec::<f32>::try_from(tensor).expect("values"), values);
    }

    /// Other tests take of it at the same time.
    fn memory_of_a_device_is_counted(device: &burn::tensor::Device) {
        const BYTES: i64 = 1 << 30;
        let Device::Cuda(gpu) = tch_device(device) else {
            let opened = crate::open(&crate::Selection::Tch(crate::TchDevice::Cpu));
            assert!(opened.expect("opens").peak_memory().is_none());
            return;
        };
        let tensor = Tensor::zeros([BYTES], (Kind::Uint8, Device::Cuda(gpu)));
        assert!(peak_memory(gpu, true).expect("counted") >= BYTES as u64);
        drop(tensor);
        assert!(peak_memory(gpu, false).expect("counted") >= BYTES as u64);
        peak_memory(gpu, true).expect("counted");
        assert!(peak_memory(gpu, false).expect("counted") < BYTES as u64);
    }
}
