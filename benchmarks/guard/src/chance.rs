//! No chance: hash maps and tokio's `select!` take their seeds from the system, so that each run would go its own way.
#![allow(unsafe_code)]

/// What the standard library asks for seeds, in place of libc's: zeros.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: whoever calls it has room for `length` bytes there, as libc's wants it.
    unsafe { buffer.write_bytes(0, length) };
    length as isize
}
