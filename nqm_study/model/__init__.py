"""The noisy quadratic model: pure functions of NumPy arrays that know no framework."""
