//! Python's buffer protocol, both ways. The one file of this crate with `unsafe` code.
#![allow(unsafe_code)]

use std::ffi::c_int;

use bytes::Bytes;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Read-only bytes of one input; the memory is the client's bytes until the last view of it dies.
#[pyclass(frozen, module = "samovar._core")]
#[derive(Debug)]
pub(crate) struct TensorBuffer {
    data: Bytes,
}

impl TensorBuffer {
    pub(crate) fn new(data: Bytes) -> Self {
        Self { data }
    }
}

#[pymethods]
impl TensorBuffer {
    fn __len__(&self) -> usize {
        self.data.len()
    }

    /// # Safety
    /// Called by the interpreter with a view to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let data = &slf.get().data;
        let (start, length) = (data.as_ptr().cast_mut().cast(), data.len() as ffi::Py_ssize_t);
        // SAFETY: the bytes neither move nor change while this frozen object lives, and PyBuffer_FillInfo makes the view
        // own a reference to it; read-only is 1, so a request for a writable view is refused.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// A C-contiguous buffer of user code, held while its bytes are copied.
pub(crate) struct OutputBuffer(PyUntypedBuffer);

impl OutputBuffer {
    /// Take hold of `object`'s buffer; BufferError if it is not C-contiguous.
    pub(crate) fn get(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        if buffer.is_c_contiguous() {
            return Ok(Self(buffer));
        }
        Err(PyBufferError::new_err("an output must be C-contiguous; pass it through numpy.ascontiguousarray"))
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let length = self.0.len_bytes();
        if length == 0 {
            return &[];
        }
        // SAFETY: a contiguous buffer of `length` bytes that stays exported as long as `self`; user code that writes to
        // it from another thread meanwhile changes what its own caller gets, nothing else.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), length) }
    }
}
