//! Messages of what libtorch threw, as the functions of this crate's C++ files return them.
#![allow(
    unsafe_code,
    reason = "takes over texts that foreign functions made, for the two places that call some"
)]

use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn selfcls_free_message(text: *mut c_char);
}

/// Takes over a text that a function of ours in C++ made; none if it made none.
///
/// # Safety
/// `text` must be null or what such a function has just returned, and is not to be used again.
pub(crate) unsafe fn taken(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise: a NUL-terminated string made for us, read before it is given back, and
    // given back once.
    Some(unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        selfcls_free_message(text);
        owned
    })
}

/// What a function of ours in C++ answered: nothing, or the message of what was thrown.
///
/// # Safety
/// As [`taken`].
pub(crate) unsafe fn answer(thrown: *mut c_char) -> Result<(), String> {
    // SAFETY: the caller's promise.
    match unsafe { taken(thrown) } {
        None => Ok(()),
        Some(message) => Err(message),
    }
}
