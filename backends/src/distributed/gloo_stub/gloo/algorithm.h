// libtorch ships ProcessGroupGloo.hpp without the headers of gloo that it includes. What it needs of them is
// declared in this folder: the process group holds gloo's objects by pointer only, so their names are enough.
#pragma once
