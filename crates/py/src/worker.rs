//! The worker process: calls and questions as Python objects.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use samovar_core::channel::frame::BadFrame;
use samovar_core::channel::proto::{Failure, Header, HttpResponse, Item, Parameter, Target, failure, parameter};
use samovar_core::channel::worker::{CallFrame, CallState, Incoming, Input, NoRoom, Output, StepNews, WorkerEnd};
use samovar_core::clock::NEVER;
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
    state: Arc<CallState>,
    #[pyo3(get)]
    id: u64,
    #[pyo3(get)]
    instance: u32,
    #[pyo3(get)]
    rows: u32,
    #[pyo3(get)]
    method: String,
    /// Seconds of `time.monotonic()`.
    #[pyo3(get)]
    deadline: f64,
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
        let end = py.detach(WorkerEnd::take_over_stdin).map_err(|error| PyOSError::new_err(error.to_string()))?;
        // An interpreter that is ending lives, too.
        end.watch_pulse(|| _ = Python::try_attach(|_| ()));
        Ok(Self(end))
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

    fn news(&self) -> Vec<u64> {
        self.0.take_news()
    }

    fn begin(
        &self,
        target: (String, Option<String>),
        parent: u64,
        inputs: Vec<(String, u32, Vec<u64>, Bound<'_, PyAny>)>,
    ) -> PyResult<Step> {
        let (mut names, mut tensors) = (Vec::new(), Vec::new());
        for (name, number, shape, data) in inputs {
            names.push(name);
            tensors.push((number, shape, data));
        }
        let (model, version) = (target.0, target.1.unwrap_or_default());
        let target = Target { model, version, names, parent };
        let step = with_outputs(&tensors, |parts| self.0.begin(target, Item::default(), parts))?;
        let step = step.ok_or_else(|| PyMemoryError::new_err("the engine grants no memory for the inputs"))?;
        Ok(Step { end: Arc::clone(&self.0), step })
    }
}

impl WorkerChannel {
    fn convert(&self, py: Python<'_>, incoming: Result<Option<Incoming>, BadFrame>) -> PyResult<Option<Py<PyAny>>> {
        let end = Arc::clone(&self.0);
        match incoming.map_err(|error| PyRuntimeError::new_err(error.to_string()))? {
            None => Ok(None),
            Some(Incoming::Call(frame)) => {
                let (id, instance, rows) = (frame.call, frame.instance, frame.rows);
                let (method, state) = (frame.method.clone(), Arc::clone(&frame.state));
                let deadline = if frame.deadline == NEVER { f64::INFINITY } else { frame.deadline as f64 / 1e9 };
                let call = Call { end, frame: Mutex::new(Some(frame)), state, id, instance, rows, method, deadline };
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
type PyOutput<'py> = (u32, Vec<u64>, Bound<'py, PyAny>);
type Headers = Vec<(Vec<u8>, Vec<u8>)>;
type PyHeaders<'py> = Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>;
/// Id, rows, parameters and trace.
type PyRequest<'py> = (String, u32, Bound<'py, PyDict>, String);
/// Method, path, query, headers, protocol version, scheme, client, and whether another protocol is wanted.
type PyHttp<'py> = (String, String, String, PyHeaders<'py>, String, String, String, bool);
/// True for the last; outputs with their names; slug and text of what went wrong.
type PyNews<'py> = (bool, Vec<(String, Py<TensorBuffer>, u8, Bound<'py, PyTuple>)>, Option<(String, String)>);

#[pymethods]
impl Call {
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<PyInput<'py>>> {
        let inputs = self.frame.lock().as_mut().map(|frame| std::mem::take(&mut frame.inputs)).unwrap_or_default();
        inputs.into_iter().map(|input| convert(py, input)).collect()
    }

    fn request_ids(&self) -> Vec<String> {
        let frame = self.frame.lock();
        frame.as_ref().map(|frame| frame.items.iter().map(|item| item.id.clone()).collect()).unwrap_or_default()
    }

    fn requests<'py>(&self, py: Python<'py>) -> PyResult<Vec<PyRequest<'py>>> {
        let items = self.frame.lock().as_ref().map(|frame| frame.items.clone()).unwrap_or_default();
        let convert = |item: Item| Ok((item.id, item.rows, parameters(py, item.parameters)?, item.trace));
        items.into_iter().map(convert).collect()
    }

    fn http<'py>(&self, py: Python<'py>) -> Option<PyHttp<'py>> {
        let http = self.frame.lock().as_mut()?.http.take()?;
        let header = |header: Header| (PyBytes::new(py, &header.name), PyBytes::new(py, &header.value));
        let headers = http.headers.into_iter().map(header).collect();
        let (version, scheme, client) = (http.version, http.scheme, http.client);
        Some((http.method, http.path, http.query, headers, version, scheme, client, http.is_upgrade))
    }

    fn body<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let first = self.frame.lock().as_mut().and_then(|frame| frame.inputs.pop());
        if let Some(input) = first {
            return Some(PyBytes::new(py, &input.data));
        }
        let piece = self.state.take_body()?;
        self.end.credit(self.id);
        Some(PyBytes::new(py, &piece))
    }

    #[getter]
    fn is_body_over(&self) -> bool {
        self.frame.lock().as_ref().is_none_or(|frame| frame.inputs.is_empty()) && self.state.is_body_over()
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    #[getter]
    fn has_credit(&self) -> bool {
        self.state.has_credit()
    }

    fn wait_for_credit(&self, py: Python<'_>) -> bool {
        py.detach(|| self.state.wait_for_credit())
    }

    fn part(&self, outputs: Vec<PyOutput<'_>>) -> PyResult<bool> {
        with_outputs(&outputs, |parts| self.sent(|frame| self.end.part(frame, parts)))?
    }

    fn finish(&self, outputs: Vec<PyOutput<'_>>) -> PyResult<()> {
        with_outputs(&outputs, |parts| {
            self.end.finish(self.take()?, parts);
            Ok(())
        })?
    }

    fn respond_part(&self, head: Option<(u32, Headers)>, body: &[u8]) -> PyResult<bool> {
        self.sent(|frame| self.end.respond_part(frame, head.map(response), body))
    }

    fn respond(&self, head: Option<(u32, Headers)>, body: &[u8]) -> PyResult<()> {
        self.end.respond(self.take()?, head.map(response), body);
        Ok(())
    }

    #[pyo3(signature = (class_name, message, traceback, code = String::new()))]
    fn fail(&self, class_name: String, message: String, traceback: String, code: String) -> PyResult<()> {
        self.answer(failure::Kind::Exception, Failure { class_name, message, traceback, code, ..Failure::default() })
    }

    fn refuse_input(&self, message: String) -> PyResult<()> {
        self.answer(failure::Kind::Input, Failure { message, ..Failure::default() })
    }

    fn refuse_output(&self, message: String) -> PyResult<()> {
        self.answer(failure::Kind::Output, Failure { message, ..Failure::default() })
    }
}

impl Call {
    fn take(&self) -> PyResult<CallFrame> {
        self.frame.lock().take().ok_or_else(answered)
    }

    fn sent(&self, send: impl FnOnce(&mut CallFrame) -> Result<bool, NoRoom>) -> PyResult<bool> {
        let mut frame = self.frame.lock();
        let sent = send(frame.as_mut().ok_or_else(answered)?);
        sent.map_err(|_| PyMemoryError::new_err("the engine grants no memory for a piece of this size"))
    }

    fn answer(&self, kind: failure::Kind, failure: Failure) -> PyResult<()> {
        self.end.fail(self.take()?, Failure { kind: kind as i32, ..failure });
        Ok(())
    }
}

/// A call of another model, which runs until it is dropped.
#[pyclass(frozen, module = "samovar._core")]
#[derive(Debug)]
pub(crate) struct Step {
    end: Arc<WorkerEnd>,
    step: Arc<samovar_core::channel::worker::Step>,
}

#[pymethods]
impl Step {
    #[getter]
    fn number(&self) -> u64 {
        self.step.number
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<PyNews<'py>>> {
        self.step.take().map(|news| self.told(py, news)).transpose()
    }

    fn wait<'py>(&self, py: Python<'py>) -> PyResult<PyNews<'py>> {
        let news = py.detach(|| self.step.wait());
        self.told(py, news)
    }

    fn drop(&self) {
        self.end.drop_step(&self.step);
    }
}

impl Step {
    fn told<'py>(&self, py: Python<'py>, news: StepNews) -> PyResult<PyNews<'py>> {
        let outputs = |outputs: Vec<(String, Input)>| {
            let named = |(name, input)| {
                let (buffer, number, shape) = convert(py, input)?;
                Ok((name, buffer, number, shape))
            };
            outputs.into_iter().map(named).collect::<PyResult<Vec<_>>>()
        };
        Ok(match news {
            StepNews::Part(part) => {
                self.end.credit(self.step.number);
                (false, outputs(part)?, None)
            }
            StepNews::End(Ok(last)) => (true, outputs(last)?, None),
            StepNews::End(Err(failure)) => (true, Vec::new(), Some((failure.code, failure.message))),
        })
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.end.drop_step(&self.step);
    }
}

fn answered() -> PyErr {
    PyRuntimeError::new_err("this call has been answered")
}

fn convert<'py>(py: Python<'py>, input: Input) -> PyResult<PyInput<'py>> {
    let shape = PyTuple::new(py, input.shape)?;
    Ok((Py::new(py, TensorBuffer::new(input.data))?, input.datatype as u8, shape))
}

fn parameters<'py>(py: Python<'py>, parameters: HashMap<String, Parameter>) -> PyResult<Bound<'py, PyDict>> {
    let converted = PyDict::new(py);
    for (name, parameter) in parameters {
        match parameter.value {
            Some(parameter::Value::BoolValue(value)) => converted.set_item(name, value)?,
            Some(parameter::Value::IntValue(value)) => converted.set_item(name, value)?,
            Some(parameter::Value::DoubleValue(value)) => converted.set_item(name, value)?,
            Some(parameter::Value::StringValue(value)) => converted.set_item(name, value)?,
            None => {}
        }
    }
    Ok(converted)
}

fn response((status, headers): (u32, Headers)) -> HttpResponse {
    HttpResponse { status, headers: headers.into_iter().map(|(name, value)| Header { name, value }).collect() }
}

/// Do something with the bytes of Python's buffers, which are held meanwhile.
fn with_outputs<T>(outputs: &[PyOutput<'_>], act: impl FnOnce(&[Output<'_>]) -> T) -> PyResult<T> {
    let held = outputs.iter().map(|(_, _, data)| OutputBuffer::get(data)).collect::<PyResult<Vec<_>>>()?;
    let mut parts = Vec::with_capacity(outputs.len());
    for ((number, shape, _), buffer) in outputs.iter().zip(&held) {
        let Some(datatype) = Datatype::from_number(*number) else {
            return Err(PyValueError::new_err(format!("{number} is no datatype")));
        };
        parts.push(Output { datatype, shape: shape.clone(), data: buffer.bytes() });
    }
    Ok(act(&parts))
}
