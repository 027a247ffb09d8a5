//! The requests to `bpf(2)` for entries of maps, and about an attachment. (`aya` loads and attaches the
//! program.) And the memory of arrays that the program and this process share.
//!
//! The kernel's contract (`include/uapi/linux/bpf.h`, `kernel/bpf/syscall.c`): the second argument
//! points to a `union bpf_attr`, of which as many bytes are read, and written back, as the third says;
//! what lies behind them is zero to the kernel. `key` and `value` point to memory of the sizes that
//! the map has. The value of a map per CPU is an array of values for each possible CPU, each
//! rounded up to 8 bytes.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU32;

const MAP_LOOKUP: c_int = 1;
const MAP_UPDATE: c_int = 2;
const MAP_DELETE: c_int = 3;
const OBJECT_INFO: c_int = 15;
const LINK_CREATE: c_int = 28;

/// `BPF_TCX_EGRESS`.
const TCX_EGRESS: u32 = 47;

/// A map with keys and values of known sizes.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

/// The member of `union bpf_attr` for one entry.
#[repr(C)]
struct EntryRequest {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The member of `union bpf_attr` for facts about an object.
#[repr(C)]
struct InfoRequest {
    fd: u32,
    length: u32,
    info: u64,
}

impl Map {
    /// The map behind `fd`, whose values have `value` bytes in one request.
    ///
    /// # Errors
    /// If it has keys of another size than `key`, or smaller values, or cannot be asked.
    pub(crate) fn new(fd: OwnedFd, key: usize, value: usize) -> io::Result<Self> {
        // struct bpf_map_info: type, id, key_size, value_size.
        let mut info = [0u32; 4];
        object_info(fd.as_raw_fd(), &mut info)?;
        let map = Self { fd, key, value };
        if info[2] as usize != key || info[3] as usize > value {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(map)
    }

    /// Bytes of a value in one request.
    pub(crate) fn value_size(&self) -> usize {
        self.value
    }

    fn entry(&self, key: &[u8], value: u64) -> EntryRequest {
        assert_eq!(key.len(), self.key);
        EntryRequest {
            map: self.fd.as_raw_fd() as u32,
            zero: 0,
            key: key.as_ptr().addr() as u64,
            value,
            flags: 0,
        }
    }

    /// Writes an entry, whether it is there or not.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value);
        let mut request = self.entry(key, value.as_ptr().expose_provenance() as u64);
        // SAFETY: key and value are readable for the sizes that the map has, as checked.
        unsafe { bpf(MAP_UPDATE, &mut request) }.map(drop)
    }

    /// Reads an entry's value; false if it is not there.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.read(MAP_LOOKUP, key, value)
    }

    fn read(&self, command: c_int, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        assert_eq!(value.len(), self.value);
        let mut request = self.entry(key, value.as_mut_ptr().expose_provenance() as u64);
        // SAFETY: the key is readable and the value writable for the sizes that the map has, as
        // checked.
        found(unsafe { bpf(command, &mut request) })
    }

    /// Takes an entry out; false if it is not there.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        let mut request = self.entry(key, 0);
        // SAFETY: the key is readable for the size that the map has; there is no value.
        found(unsafe { bpf(MAP_DELETE, &mut request) })
    }

    /// The whole of an array whose memory can be shared (`BPF_F_MMAPABLE`) and has `len` bytes.
    pub(crate) fn memory(&self, len: usize) -> io::Result<Memory> {
        Memory::new(libc::MAP_SHARED, self.fd.as_raw_fd(), len)
    }
}

/// Memory that the program, or nobody else, reads and writes too. Whole words.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<AtomicU32>,
    bytes: usize,
}

// SAFETY: it belongs to this value until the value is dropped, and is reached by atomic accesses alone.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(flags: c_int, fd: c_int, bytes: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the place, where nothing else is.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, bytes })
    }

    /// Memory of this process alone.
    #[cfg(test)]
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        Self::new(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, bytes)
    }

    /// All of it as words of 32 bits.
    pub(crate) fn words(&self) -> &[AtomicU32] {
        // SAFETY: the memory is there for as long as `self`, begins at a page, and this process reaches it
        // in this way alone; every value is one of an `AtomicU32`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes / 4) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the memory is that of `new`, and no reference to it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Attaches a program behind all others at the egress of the interface with number `index`, for as long
/// as the link lives.
pub(crate) fn attach_tcx(program: BorrowedFd<'_>, index: u32) -> io::Result<OwnedFd> {
    // Program, target, kind of attachment, and no flags.
    let mut request = [program.as_raw_fd() as u32, index, TCX_EGRESS, 0];
    // SAFETY: the request has no pointers.
    let link = unsafe { bpf(LINK_CREATE, &mut request) }?;
    // SAFETY: the kernel has made this descriptor, and no one else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// The number of the interface that a TCX link is on; zero if others have cut it.
pub(crate) fn tcx_interface(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // struct bpf_link_info: type, id, prog_id, padding, tcx.ifindex.
    let mut info = [0u32; 5];
    object_info(fd.as_raw_fd(), &mut info)?;
    Ok(info[4])
}

/// Reads the first words of what the kernel tells of a program, map or link.
fn object_info<const WORDS: usize>(fd: c_int, info: &mut [u32; WORDS]) -> io::Result<()> {
    let mut request = InfoRequest {
        fd: fd as u32,
        length: size_of_val(info) as u32,
        info: info.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: the kernel writes no more than `length` bytes to `info`.
    unsafe { bpf(OBJECT_INFO, &mut request) }.map(drop)
}

/// True for success, false for an entry that is not there.
fn found(answer: io::Result<c_int>) -> io::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the system call.
///
/// # Safety
/// `request` is the member of `union bpf_attr` that `command` takes, and its pointers are valid for
/// it.
unsafe fn bpf<T>(command: c_int, request: &mut T) -> io::Result<c_int> {
    let request: *mut T = request;
    // SAFETY: the kernel reads and writes as many bytes of the request as it is told; the caller
    // answers for the rest.
    let answer: c_long = unsafe { libc::syscall(libc::SYS_bpf, command, request, size_of::<T>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer as c_int)
}
