"""Parts of `ascent`: where a climb starts, how it goes up, and how its best patterns are improved neuron by neuron."""
