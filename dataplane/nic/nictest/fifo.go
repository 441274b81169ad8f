package nictest

import "fmt"

// fifo is a ring of fixed size, a power of two.
type fifo[T any] struct {
	slots      []T
	head, tail uint32 // next to pop, next to push; their difference is the length
}

func newFIFO[T any](size int) fifo[T] {
	if size == 0 {
		size = DefaultRingSize
	}
	if size < 0 || size&(size-1) != 0 {
		panic(fmt.Sprintf("ring size %d is not a power of two", size))
	}
	return fifo[T]{slots: make([]T, size)}
}

func (f *fifo[T]) len() int  { return int(f.tail - f.head) }
func (f *fifo[T]) room() int { return len(f.slots) - f.len() }
func (f *fifo[T]) peek() T   { return f.slots[f.head&uint32(len(f.slots)-1)] }

func (f *fifo[T]) push(v T) {
	f.slots[f.tail&uint32(len(f.slots)-1)] = v
	f.tail++
}

func (f *fifo[T]) pop() T {
	v := f.peek()
	f.head++
	return v
}
