#pragma once
#include "mma.h"
typedef Bfloat16 __half;
