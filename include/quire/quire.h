// Everything public.
#pragma once

#include "quire/activation.h"
#include "quire/append.h"
#include "quire/attention.h"
#include "quire/device.h"
#include "quire/dlpack.h"
#include "quire/embedding.h"
#include "quire/error.h"
#include "quire/fp8_scale.h"
#include "quire/gemm.h"
#include "quire/kv_pool.h"
#include "quire/merge.h"
#include "quire/norm.h"
#include "quire/paged_kv.h"
#include "quire/rope.h"
#include "quire/sampling.h"
#include "quire/tensor.h"
