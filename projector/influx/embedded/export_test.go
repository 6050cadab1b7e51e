package embedded

// SetMaxValues makes the engine's limit on the values of a tag small.
func (o *Options) SetMaxValues(n int) { o.maxValues = n }
