"""PyTorch's files without PyTorch: two that it wrote, older forms by hand, and files that would run something."""

import base64
import io
import os
import pathlib
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpconv_jax import UsageError
from dpconv_jax.weights import torch_file

# torch.save of torch 2.13.0, compressed: with w = torch.arange(6.).reshape(2, 3), {"turned": w.T, "part": w[1, 1:],
# "nested": OrderedDict(half=torch.tensor([0.5]).half(), count=torch.tensor(7)), "step": 3,
# "parameter": Parameter(torch.tensor([[2.0]]).double())}; the second with _use_new_zipfile_serialization=False.
ZIP = (
    "c-o~^OK;Ok6rRMXn;LHV;L%bp<qZjxG<Hgpz=a|US(S`L2|@~NA~zXo3pdVj#zlaTDxntG!5=`Z`2+k8SRf=|#R9Qn3me3Y-5QTe$c2tF9yy-x"
    "amMEy&+9@8p>!H;8bfFV8E(V0mhn{6AV$7@%huEky1|W=<b6Qdnn(e}b6dCxi3V{fEMNDCWp|{yix)i0Zq^BIbsV?8tVoc|W^4Tv(V;tyMGQg!"
    "ku=*e$kpIa2~xEL-BW<Rnn2e^+XGP-3G`plkuK=THAw3TU08#G$Bl+#+qgk2r`3@zyG`uk=0&SPB#?4d*hXM`75=HwI8obh31m!az!c1s*=PEc"
    "gIDyFo?L|?J+TVIk4=UeA+VzgJN?L7xI<`UyZi^cvp$n)*f(J`U|P37NB;`lkNNIp*h3`}1jd<b%D$If{tYDd5tyjL{#qXk&+%FW4sd*zoYrE<"
    "chKik;84JKnDXUv0nZTvN2_qm^L<gLZ8)wAwSgd9V+j-NLbl6W33o`4<HRpI-hz!o`4hf;5l#m3lYTgQVhv6OOFpnNMW9dx`H_F4JcMEuroH^U"
    "-k-jno7;6Xi4dFfU6XDU?GBSJf75Z73{qdlZil{EO&y8l9vd>_e);A717?rS?%d<3^pkr%_3DOgEw+|$i)d=`7xX>H%rrAFdmBE}xKQ%928PjW"
    "Xkg(E!4At*O+EWJx*Nl`2(dBquzK#}9+s@)Z#`ttd9JFb3YvOm3kCw#m05bZK!0?u(E0oVb2R$o)6+5fV62CuN#2pHsoDSS2$h+V@#3A;`}{LV"
    "<&_joJ-?O1r=x$Jo4IJe`Q$L!bPpH*@h*y*T1Hztf8?L{w`bpX^wu9lXG8t4v`T+#peQlrSI-u&^*;Xzr2H&EKlBcEEn0zh4c5BrR#Q{+e`rK5"
    "luG3prKD6!l}h>av^=AnE>z0wrc{<^DsrhJmn#K7OXem|e#lZES>I)XnGJnL+tbh{=kf1g935>yqa4ypqHYZ>P7-Y*;~dGWD9NVI73YaIf?<xQ"
    "Dxl2`C=QQSZH9xt5m2mm#Ieyj<gsQdhLz*kX!Y>e*Kw>8$3`=s$Fh$rUu|)0G<OF%?Ar*o%R7sv)C7OlBI=Rs^SUTbZj^>_Dnv@L^+7UNzls~J"
    "M)bSRy@B99`0DkE0Y>uo2YY`2G1xJh"
)
PICKLES = (
    "c-nPRNpI6Y6!w;c8d}OuS<CLQgkU=%InhH^Ax)vJx%h%C*BNRf<MFe{l|ZVLOGC?V;J}f;#!o=vz_TX}iexO$jNhB*Z<#k^<(nS=`M&Xc_2bX&"
    "mCjgs^Gn6~03^d*mLw_77-s>Cy?vVH5lcYE0(TL2;)wH@dNdhDegevot7DRXPN|niUuX{M0ceKXz+@h>j6;Jcu8L8VaA*?E)k+MO>_LlYMRCH}"
    "EJ2Dap(Bt3&axovcm<E*T=z1%TSW25<21=x=Ixt0D2Cy-N(QX-_b9017kwjUK7S{YI%w_^)(ov-e=xNB1Iy}JeP~o-g0w&}&9@v{J47NXQ6_MT"
    "$V8pM!f}AUV;XR@o$FiKh-P%O9tB(nz3sqh4rd%#tbC+C8e9rdPN;^pbZ0|Bv%Etzq8!3GA|Jx}<FG`!z~Q0;mn!cG%{h9%Ty0!2D)i8gKfqOi"
    "J~j9nQ!{@n{|E>Du5BW%4cCxRM#Af*FXXyWPB#VNEe^LGSgo29umT%$XAXT6+cHDHJBMx#Y|HGzy(#*AL~pkR>H`iB9e7k!n$blH22tGwaXkJf"
    "%4r7e|MYZLp~K@jDeJ7*jp<CxlX<JXp8e8<r&BS{Dyu}EKu0Xkg|IG%7Y>+5RbYJu+kswr;og@QuEv~Pcb-Zevs%|`jdo;7Jgw<^5=(>Gmw48i"
    "bK&?^nZp;y7{`ybzp;Spg8"
)


@pytest.fixture(params=[ZIP, PICKLES], ids=["zip", "pickles"])
def content(request) -> bytes:
    return zlib.decompress(base64.b85decode(request.param))


def read(place: pathlib.Path, content: bytes) -> dict[str, np.ndarray]:
    (place / "weights.pth").write_bytes(content)
    return torch_file.read(place / "weights.pth")


def test_what_torch_wrote(tmp_path, content):
    found = read(tmp_path, content)
    expected = {
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "part": np.array([4, 5], np.float32),
        "nested.half": np.array([0.5], np.float16),
        "nested.count": np.array(7),
        "parameter": np.array([[2.0]]),
    }
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


# What is left of the pickles of early versions, by hand: of two rows in a storage of four numbers.
TEXT = {word: b"X" + struct.pack("<I", len(word)) + word.encode() for word in ("storage", "key", "cpu", "w")}
STORAGE = b"(" + TEXT["storage"] + b"ctorch\nFloatStorage\n" + TEXT["key"] + TEXT["cpu"] + b"K\x04NtQ"
VIEW = STORAGE + b"K\x00" + b"K\x02K\x02\x86" + b"K\x02K\x01\x86"
TENSOR = b"ctorch._utils\n_rebuild_tensor\n(" + VIEW + b"tR"
PARAMETER = b"ctorch.nn.parameter\nParameter\n"


def pickles(value: bytes, *, length: int = 4) -> bytes:
    saved = b"\x80\x02}" + TEXT["w"] + value + b"s."
    before = b"".join(pickle.dumps(each, 2) for each in (torch_file.MAGIC, 1001, {}))
    return before + saved + pickle.dumps(["key"], 2) + struct.pack("<q4f", length, 1, 2, 3, 4)


@pytest.mark.parametrize(
    "value",
    [
        TENSOR,
        b"ctorch\nFloatTensor\n)\x81(" + VIEW + b"tb",
        PARAMETER + TENSOR + b"\x85R",
        PARAMETER + TENSOR + b"\x85\x81(\x88\x89Ntb",
        PARAMETER + b")\x81(" + TENSOR + b"NN\x88\x89tb",
    ],
    ids=["rebuilt", "tensor by state", "parameter of a tensor", "with flags", "parameter by state"],
)
def test_older_forms(tmp_path, value):
    found = read(tmp_path, pickles(value))
    np.testing.assert_array_equal(found["w"], np.array([[1, 2], [3, 4]], np.float32), strict=True)


class Runs:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("container", ["zip", "pickles", "first"])
def test_nothing_is_run(tmp_path, container):
    run = pickle.dumps({"w": Runs(tmp_path / "ran")}, 2)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", run)
    content = {"zip": stream.getvalue(), "pickles": pickles(run[2:-1]), "first": run}[container]
    with pytest.raises(UsageError, match=r"names \w+\.mkdir, which is no part of a tensor; it was not run"):
        read(tmp_path, content)
    assert not (tmp_path / "ran").exists()
    pickle.loads(run)  # elsewhere it is
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "Ran out of input"),
        (b"<html>", "invalid load key"),
        (pickle.dumps(3, 2), "another number"),
        (pickles(TENSOR)[:-1], "shorter than its tensors"),
        (pickles(TENSOR, length=5), "another length"),
        (pickles(TENSOR.replace(b"K\x02K\x02\x86", b"K\x03K\x02\x86")), "shorter than its tensors"),
        (pickles(TENSOR.replace(b"K\x04NtQ", b"K\x04K\x01tQ")), "no storage of its own"),
        (pickles(TENSOR.replace(b"FloatStorage", b"BFloat16Storage")), "names torch.BFloat16Storage"),
    ],
)
def test_damaged_files(tmp_path, content, fault):
    with pytest.raises(UsageError, match=fault):
        read(tmp_path, content)


@pytest.mark.parametrize("place", ["compressed", "big"])
def test_archives_of_another_kind(tmp_path, place):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/byteorder" if place == "big" else "archive/data/0", "big")
    with pytest.raises(UsageError, match="compressed" if place == "compressed" else "big-endian"):
        read(tmp_path, stream.getvalue())


@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_gives_arrays_or_one_line(tmp_path, content, data):
    damaged = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=3)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        found = read(tmp_path, bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    except UsageError as error:
        assert str(error).startswith(f"{tmp_path / 'weights.pth'} cannot be read as a PyTorch file: ")
    else:
        assert sum(array.nbytes for array in map(np.copy, found.values())) < 1e6  # and all of them can be read
