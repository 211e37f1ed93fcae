//! The worker process: calls and questions as Python objects.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use samovar_core::channel::frame::BadFrame;
use samovar_core::channel::proto::{Failure, failure};
use samovar_core::channel::worker::{CallFrame, Incoming, Input, Output, WorkerEnd};
use samovar_core::tensor::Datatype;

use crate::buffer::{OutputBuffer, TensorBuffer};

/// The worker's end of the channel.
#[pyclass(frozen, module = "samovar._core")]
#[derive(Debug)]
pub(crate) struct WorkerChannel(Arc<WorkerEnd>);

/// One execution that the engine asked for; it has been claimed.
#[pyclass(frozen, module = "samovar._core")]
#[derive(Debug)]
pub(crate) struct Call {
    end: Arc<WorkerEnd>,
    /// Taken when the call is answered.
    frame: Mutex<Option<CallFrame>>,
    #[pyo3(get)]
    id: u64,
    #[pyo3(get)]
    instance: u32,
    #[pyo3(get)]
    rows: u32,
}

/// A question of the engine beside the calls.
#[pyclass(frozen, module = "samovar._core")]
#[derive(Debug)]
pub(crate) struct Ask {
    end: Arc<WorkerEnd>,
    number: u64,
    #[pyo3(get)]
    verb: String,
    #[pyo3(get)]
    body: String,
}

#[pymethods]
impl WorkerChannel {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        py.detach(WorkerEnd::take_over_stdin).map(Self).map_err(|error| PyOSError::new_err(error.to_string()))
    }

    fn receive(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.convert(py, py.detach(|| self.0.wait()))
    }

    fn try_receive(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.convert(py, self.0.poll())
    }

    #[getter]
    fn ended(&self) -> bool {
        self.0.has_ended()
    }

    fn fileno(&self) -> i32 {
        self.0.work_descriptor().as_raw_fd()
    }

    fn cancelled_calls(&self) -> Vec<u64> {
        self.0.take_cancelled()
    }
}

impl WorkerChannel {
    fn convert(&self, py: Python<'_>, incoming: Result<Option<Incoming>, BadFrame>) -> PyResult<Option<Py<PyAny>>> {
        let end = Arc::clone(&self.0);
        match incoming.map_err(|error| PyRuntimeError::new_err(error.to_string()))? {
            None => Ok(None),
            Some(Incoming::Call(frame)) => {
                let (id, instance, rows) = (frame.call, frame.instance, frame.rows);
                let call = Call { end, frame: Mutex::new(Some(frame)), id, instance, rows };
                Ok(Some(Py::new(py, call)?.into_any()))
            }
            Some(Incoming::Ask { number, verb, body }) => {
                Ok(Some(Py::new(py, Ask { end, number, verb, body })?.into_any()))
            }
        }
    }
}

#[pymethods]
impl Ask {
    fn tell(&self, ok: bool, body: String) {
        self.end.tell(self.number, ok, body);
    }
}

type PyInput<'py> = (Py<TensorBuffer>, u8, Bound<'py, PyTuple>);

#[pymethods]
impl Call {
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<PyInput<'py>>> {
        let inputs = self.frame.lock().as_mut().map(|frame| std::mem::take(&mut frame.inputs)).unwrap_or_default();
        let convert = |input: Input| {
            let shape = PyTuple::new(py, input.shape)?;
            Ok((Py::new(py, TensorBuffer::new(input.data))?, input.datatype as u8, shape))
        };
        inputs.into_iter().map(convert).collect()
    }

    fn request_ids(&self) -> Vec<String> {
        let frame = self.frame.lock();
        frame.as_ref().map(|frame| frame.items.iter().map(|item| item.id.clone()).collect()).unwrap_or_default()
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.frame.lock().as_ref().is_some_and(|frame| frame.cancelled.load(Ordering::Acquire))
    }

    fn finish(&self, outputs: Vec<(u32, Vec<u64>, Bound<'_, PyAny>)>) -> PyResult<()> {
        let held = outputs.iter().map(|(_, _, data)| OutputBuffer::get(data)).collect::<PyResult<Vec<_>>>()?;
        let mut parts = Vec::with_capacity(outputs.len());
        for ((number, shape, _), buffer) in outputs.iter().zip(&held) {
            let Some(datatype) = Datatype::from_number(*number) else {
                return Err(PyValueError::new_err(format!("{number} is no datatype")));
            };
            parts.push(Output { datatype, shape: shape.clone(), data: buffer.bytes() });
        }
        self.end.finish(self.take()?, &parts);
        Ok(())
    }

    fn fail(&self, class_name: String, message: String, traceback: String) -> PyResult<()> {
        self.answer(failure::Kind::Exception, class_name, message, traceback)
    }

    fn refuse_input(&self, message: String) -> PyResult<()> {
        self.answer(failure::Kind::Input, String::new(), message, String::new())
    }

    fn refuse_output(&self, message: String) -> PyResult<()> {
        self.answer(failure::Kind::Output, String::new(), message, String::new())
    }
}

impl Call {
    fn take(&self) -> PyResult<CallFrame> {
        self.frame.lock().take().ok_or_else(|| PyRuntimeError::new_err("this call has been answered"))
    }

    fn answer(&self, kind: failure::Kind, class_name: String, message: String, traceback: String) -> PyResult<()> {
        let failure = Failure { kind: kind as i32, class_name, message, traceback };
        self.end.fail(self.take()?, failure);
        Ok(())
    }
}
