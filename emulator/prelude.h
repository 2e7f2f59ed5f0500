// Included before every generated unit: the CUDA keywords of its entry point, defined away.
#pragma once

#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
