//! The functions of `c10d.cpp`, safe to call: a store, process groups, and messages of what went wrong.
#![allow(
    unsafe_code,
    reason = "one of the places where this workspace calls foreign functions"
)]

use std::ffi::{CString, c_char};
use std::fmt;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::time::Duration;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::message;

/// What libtorch threw.
pub(super) type Result<T> = std::result::Result<T, String>;

#[repr(C)]
struct RawStore {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawGroup {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawWork {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawLink {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawMark {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn selfcls_c10d_has_nccl() -> bool;
    fn selfcls_leave_failures_to_us() -> *mut c_char;
    fn selfcls_store_open(
        host: *const c_char,
        port: u16,
        server: bool,
        timeout: u64,
        prefix: *const c_char,
        out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn selfcls_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const c_char,
    ) -> *mut c_char;
    fn selfcls_store_get(
        store: *mut RawStore,
        key: *const c_char,
        value: *mut *mut c_char,
    ) -> *mut c_char;
    fn selfcls_store_get_all(
        store: *mut RawStore,
        prefix: *const c_char,
        count: i32,
        values: *mut *mut c_char,
    ) -> *mut c_char;
    fn selfcls_store_add(
        store: *mut RawStore,
        key: *const c_char,
        amount: i64,
        sum: *mut i64,
    ) -> *mut c_char;
    fn selfcls_store_append(
        store: *mut RawStore,
        key: *const c_char,
        text: *const c_char,
    ) -> *mut c_char;
    fn selfcls_store_below(
        store: *mut RawStore,
        prefix: *const c_char,
        out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn selfcls_store_timeout(store: *mut RawStore, timeout: u64) -> *mut c_char;
    fn selfcls_store_free(store: *mut RawStore);
    fn selfcls_group_new(
        store: *mut RawStore,
        name: *const c_char,
        rank: i32,
        size: i32,
        timeout: u64,
        device: i32,
        interfaces: *const c_char,
        address: *const c_char,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn selfcls_group_all_reduce(
        group: *mut RawGroup,
        tensor: *mut C_tensor,
        maximum: bool,
    ) -> *mut c_char;
    fn selfcls_group_begin_sum(
        group: *mut RawGroup,
        tensor: *mut C_tensor,
        out: *mut *mut RawWork,
    ) -> *mut c_char;
    fn selfcls_work_wait(work: *mut RawWork) -> *mut c_char;
    fn selfcls_work_free(work: *mut RawWork);
    fn selfcls_group_broadcast(
        group: *mut RawGroup,
        tensor: *mut C_tensor,
        root: i32,
    ) -> *mut c_char;
    fn selfcls_group_all_gather(
        group: *mut RawGroup,
        tensor: *mut C_tensor,
        out: *mut C_tensor,
    ) -> *mut c_char;
    fn selfcls_group_shut_down(group: *mut RawGroup) -> *mut c_char;
    fn selfcls_groups_abort(groups: *const *mut RawGroup, count: usize) -> *mut c_char;
    fn selfcls_group_free(group: *mut RawGroup);
    fn selfcls_link_new(group: *const RawGroup, out: *mut *mut RawLink) -> *mut c_char;
    fn selfcls_link_lost(link: *const RawLink, lost: *mut bool) -> *mut c_char;
    fn selfcls_link_free(link: *mut RawLink);
    fn selfcls_mark_new(device: i32, out: *mut *mut RawMark) -> *mut c_char;
    fn selfcls_mark_reached(mark: *const RawMark, reached: *mut bool) -> *mut c_char;
    fn selfcls_mark_free(mark: *mut RawMark);
    fn selfcls_end_process(code: i32);
}

fn taken(text: *mut c_char) -> Option<String> {
    // SAFETY: only called with what a function of `c10d.cpp` has just returned.
    unsafe { message::taken(text) }
}

fn done(thrown: *mut c_char) -> Result<()> {
    // SAFETY: as above.
    unsafe { message::answer(thrown) }
}

/// Text for C++, which ends at the first NUL.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// libtorch counts ranks in 32 bits.
fn small(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Whether this build can join GPUs.
pub(super) fn has_nccl() -> bool {
    // SAFETY: a function without arguments that returns a constant.
    unsafe { selfcls_c10d_has_nccl() }
}

/// Takes c10d's own watchdogs off the groups of GPUs that will be made. That writes to the environment, so it is done once, and
/// before ranks have threads of their own.
pub(super) fn leave_failures_to_us() -> Result<()> {
    static DONE: OnceLock<Result<()>> = OnceLock::new();
    // SAFETY: a function without arguments.
    let set = || done(unsafe { selfcls_leave_failures_to_us() });
    DONE.get_or_init(set).clone()
}

/// Keys and values that all ranks see.
pub(super) struct Store(*mut RawStore);

// SAFETY: the store is used by one thread at a time, for all functions take it by mutable reference, and
// libtorch ties it to no thread.
unsafe impl Send for Store {}

impl Store {
    /// Connects to the store at `host:port`, or serves it there. Every key begins with `prefix`.
    pub(super) fn open(
        host: &str,
        port: u16,
        server: bool,
        timeout: Duration,
        prefix: &str,
    ) -> Result<Self> {
        let (host, prefix) = (c_text(host), c_text(prefix));
        let mut store = null_mut();
        // SAFETY: the strings outlive the call; `store` is written where nothing is thrown.
        done(unsafe {
            selfcls_store_open(
                host.as_ptr(),
                port,
                server,
                milliseconds(timeout),
                prefix.as_ptr(),
                &raw mut store,
            )
        })?;
        Ok(Self(store))
    }

    /// The same store, through the same connection, where every key also begins with `prefix`.
    pub(super) fn below(&mut self, prefix: &str) -> Result<Self> {
        let prefix = c_text(prefix);
        let mut store = null_mut();
        // SAFETY: the store is live, the prefix outlives the call; `store` is written where nothing is thrown.
        done(unsafe { selfcls_store_below(self.0, prefix.as_ptr(), &raw mut store) })?;
        Ok(Self(store))
    }

    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (c_text(key), c_text(value));
        // SAFETY: the store is live, and the strings outlive the call.
        done(unsafe { selfcls_store_set(self.0, key.as_ptr(), value.as_ptr()) })
    }

    /// The value of a key, if it has been set.
    pub(super) fn get(&mut self, key: &str) -> Result<Option<String>> {
        let key = c_text(key);
        let mut value = null_mut();
        // SAFETY: the store is live, the key outlives the call; `value` is null or a text made for us.
        done(unsafe { selfcls_store_get(self.0, key.as_ptr(), &raw mut value) })?;
        Ok(taken(value))
    }

    /// Adds to the number of a key, which begins with 0 and never is less, and returns it.
    pub(super) fn add(&mut self, key: &str, amount: u32) -> Result<usize> {
        let key = c_text(key);
        let mut sum = 0;
        // SAFETY: the store is live, the key outlives the call; `sum` is written where nothing is thrown.
        done(unsafe { selfcls_store_add(self.0, key.as_ptr(), i64::from(amount), &raw mut sum) })?;
        Ok(usize::try_from(sum).unwrap_or(0))
    }

    /// Adds to the end of the text of a key, which begins empty.
    pub(super) fn append(&mut self, key: &str, text: &str) -> Result<()> {
        let (key, text) = (c_text(key), c_text(text));
        // SAFETY: as in `set`.
        done(unsafe { selfcls_store_append(self.0, key.as_ptr(), text.as_ptr()) })
    }

    /// The values of `prefix`0 to `prefix``count - 1`, all of which have been set; they have one line each.
    pub(super) fn get_all(&mut self, prefix: &str, count: usize) -> Result<Vec<String>> {
        let prefix = c_text(prefix);
        let mut values = null_mut();
        // SAFETY: as in `get`.
        done(unsafe {
            selfcls_store_get_all(self.0, prefix.as_ptr(), small(count), &raw mut values)
        })?;
        let lines = taken(values).unwrap_or_default();
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// How long the store may take to answer from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        // SAFETY: the store is live.
        done(unsafe { selfcls_store_timeout(self.0, milliseconds(timeout)) })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by `selfcls_store_open`, and freed once.
        unsafe { selfcls_store_free(self.0) }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// Where a group's tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Gloo, between CPUs.
    Gloo,
    /// NCCL, this rank's part being the GPU of this number.
    Nccl(usize),
}

/// Where gloo's connections to this rank come in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Here<'a> {
    /// At these network interfaces, with commas between them.
    Interfaces(&'a str),
    /// At this address.
    Address(&'a str),
    /// At what the machine's name stands for.
    Unknown,
}

/// Ranks that compute together.
pub(super) struct Group(*mut RawGroup);

// SAFETY: as `Store`.
unsafe impl Send for Group {}

impl Group {
    /// Joins the group `name` as `rank` of `size`. `here` is for Gloo.
    pub(super) fn new(
        store: &mut Store,
        name: &str,
        (rank, size): (usize, usize),
        timeout: Duration,
        transport: Transport,
        here: Here<'_>,
    ) -> Result<Self> {
        let name = c_text(name);
        let (interfaces, address) = match here {
            Here::Interfaces(names) => (Some(c_text(names)), None),
            Here::Address(address) => (None, Some(c_text(address))),
            Here::Unknown => (None, None),
        };
        let pointer = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
        let device = match transport {
            Transport::Gloo => -1,
            Transport::Nccl(gpu) => small(gpu),
        };
        let mut group = null_mut();
        // SAFETY: the store is live, the strings outlive the call; `group` is written where nothing is
        // thrown.
        done(unsafe {
            selfcls_group_new(
                store.0,
                name.as_ptr(),
                small(rank),
                small(size),
                milliseconds(timeout),
                device,
                pointer(&interfaces),
                pointer(&address),
                &raw mut group,
            )
        })?;
        Ok(Self(group))
    }

    /// Sums, or takes the maximum of, the ranks' tensors in place; it must be contiguous.
    pub(super) fn all_reduce(&mut self, tensor: &mut Tensor, maximum: bool) -> Result<()> {
        // SAFETY: group and tensor are live and borrowed mutably.
        done(unsafe { selfcls_group_all_reduce(self.0, tensor.as_mut_ptr(), maximum) })
    }

    /// Begins to sum up the ranks' tensors; this rank's must be contiguous.
    pub(super) fn begin_sum(&mut self, mut tensor: Tensor) -> Result<Work> {
        let mut work = null_mut();
        // SAFETY: group and tensor are live; `work` is written where nothing is thrown.
        done(unsafe { selfcls_group_begin_sum(self.0, tensor.as_mut_ptr(), &raw mut work) })?;
        Ok(Work { work, tensor })
    }

    /// Overwrites the tensor by that of rank `root`; it must be contiguous.
    pub(super) fn broadcast(&mut self, tensor: &mut Tensor, root: usize) -> Result<()> {
        // SAFETY: as in `all_reduce`.
        done(unsafe { selfcls_group_broadcast(self.0, tensor.as_mut_ptr(), small(root)) })
    }

    /// Writes the ranks' tensors, of equal shape and contiguous, one after the other into `out`.
    pub(super) fn all_gather(&mut self, tensor: &mut Tensor, out: &mut Tensor) -> Result<()> {
        // SAFETY: as in `all_reduce`; libtorch checks that `out` has room.
        done(unsafe { selfcls_group_all_gather(self.0, tensor.as_mut_ptr(), out.as_mut_ptr()) })
    }

    /// What can be asked whether a group of NCCL's has failed; of Gloo's the operations say so.
    pub(super) fn link(&self) -> Result<Link> {
        let mut link = null_mut();
        // SAFETY: the group is live; `link` is written where nothing is thrown.
        done(unsafe { selfcls_link_new(self.0, &raw mut link) })?;
        Ok(Link(link))
    }

    /// Lets what is under way come to its end; all ranks of the group do so, and use it no more.
    pub(super) fn shut_down(&mut self) -> Result<()> {
        // SAFETY: the group is live.
        done(unsafe { selfcls_group_shut_down(self.0) })
    }
}

/// Ends what is under way in all these groups, and frees them: the other ranks see that nothing will come.
pub(super) fn close(groups: &mut Vec<Group>) {
    let raw: Vec<*mut RawGroup> = groups.iter().map(|group| group.0).collect();
    // SAFETY: the groups are live and borrowed mutably; the list outlives the call.
    let aborted = done(unsafe { selfcls_groups_abort(raw.as_ptr(), raw.len()) });
    // There is nothing to be done where memory does not suffice for that: they are freed all the same.
    drop(aborted);
    groups.clear();
}

/// See [`Group::link`].
pub(super) struct Link(*mut RawLink);

// SAFETY: c10d counts references to a group, and guards what is asked here, for several threads.
unsafe impl Send for Link {}

impl Link {
    /// Whether an operation has failed, as far as NCCL knows.
    pub(super) fn is_lost(&self) -> Result<bool> {
        let mut lost = false;
        // SAFETY: the link is live; `lost` is written where nothing is thrown.
        done(unsafe { selfcls_link_lost(self.0, &raw mut lost) })?;
        Ok(lost)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: made by `selfcls_link_new`, and freed once.
        unsafe { selfcls_link_free(self.0) }
    }
}

/// A place behind everything that a GPU has been given.
pub(super) struct Mark(*mut RawMark);

impl Mark {
    /// Sets a mark on the GPU `device`.
    pub(super) fn new(device: usize) -> Result<Self> {
        let mut mark = null_mut();
        // SAFETY: `mark` is written where nothing is thrown.
        done(unsafe { selfcls_mark_new(small(device), &raw mut mark) })?;
        Ok(Self(mark))
    }

    /// Whether the GPU has come to it.
    pub(super) fn is_reached(&self) -> Result<bool> {
        let mut reached = false;
        // SAFETY: the mark is live; `reached` is written where nothing is thrown.
        done(unsafe { selfcls_mark_reached(self.0, &raw mut reached) })?;
        Ok(reached)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: made by `selfcls_mark_new`, and freed once.
        unsafe { selfcls_mark_free(self.0) }
    }
}

/// Ends the process without waiting for anything, not even for what GPUs do.
pub(super) fn end_process(code: i32) {
    // SAFETY: a call of the C library that needs nothing and does not come back.
    unsafe { selfcls_end_process(code) }
}

/// A sum that is under way. libtorch holds on to the tensor itself.
pub(super) struct Work {
    work: *mut RawWork,
    tensor: Tensor,
}

// SAFETY: as `Store`.
unsafe impl Send for Work {}

impl Work {
    /// The sum, when it is there.
    pub(super) fn wait(self) -> Result<Tensor> {
        // SAFETY: made by `selfcls_group_begin_sum`, and freed only when dropped.
        done(unsafe { selfcls_work_wait(self.work) })?;
        Ok(self.tensor.shallow_clone())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: made by `selfcls_group_begin_sum`, and freed once.
        unsafe { selfcls_work_free(self.work) }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by `selfcls_group_new`, and freed once.
        unsafe { selfcls_group_free(self.0) }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Group")
    }
}
