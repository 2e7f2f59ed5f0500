// Included before every generated unit: the CUDA keywords of its entry point, defined away.
#pragma once

#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
// Not forced: kernels are compiled for short compile times.
#define __forceinline__ inline
