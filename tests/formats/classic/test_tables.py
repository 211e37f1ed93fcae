"""Rows of a matrix by the names of its columns: JSON records, and tables of pandas, polars and Arrow by the client."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xgboost

from samovar.client import Client
from samovar.errors import InputError
from serving import Serve

TABLE = pd.DataFrame({"age": range(60), "is paid": [True, False] * 30, "pay [EUR]": [0.5, None, 2.0] * 20})
KINDS: list[Callable[[pd.DataFrame], Any]] = [
    lambda table: table,
    pl.from_pandas,
    pa.Table.from_pandas,
    lambda table: table.convert_dtypes(),  # NA in place of NaN
    lambda table: table[["pay [EUR]", "is paid", "age"]],
    lambda table: table.astype(object).where(table.notna(), None).to_dict("records"),
]


def test_rows_of_a_matrix_are_told_by_name(serve: Serve, tmp_path: Path) -> None:
    model = xgboost.XGBClassifier(n_estimators=5).fit(TABLE.rename(columns={"pay [EUR]": "pay"}), TABLE["age"] % 3)
    booster = model.get_booster()
    booster.feature_names = list(TABLE.columns)
    model.save_model(tmp_path / "paid.ubj")
    served = serve(str(tmp_path / "paid.ubj"))
    wanted = booster.inplace_predict(TABLE.astype("float32").to_numpy())
    with Client(f"http://127.0.0.1:{served.port}") as client:
        assert client.metadata("paid")["inputs"][0]["columns"] == list(TABLE.columns)
        for kind in KINDS:
            np.testing.assert_allclose(client.infer("paid", kind(TABLE))["probabilities"], wanted, rtol=1e-6)
        with pytest.raises(InputError, match='no column "id"'):
            client.infer("paid", TABLE.assign(id=1))
        with pytest.raises(InputError, match='no column "age"'):
            client.infer("paid", TABLE.drop(columns="age"))
        with pytest.raises(InputError, match='column "age" has values of'):
            client.infer("paid", TABLE.assign(age="young"))
    body = {"records": json.loads(TABLE.to_json(orient="records"))}
    answer = served.http.request("POST", "/v2/models/paid/infer", json.dumps(body).encode())
    np.testing.assert_allclose(answer.arrays()["probabilities"], wanted, rtol=1e-6)
