package rewrite

// Buf is a frame inside the memory it was received into. The room before the
// frame takes outer headers and the room behind it longer replies, so that no
// payload is ever copied.
type Buf struct {
	Chunk      []byte // the whole chunk
	Start, End int    // the frame is Chunk[Start:End]; 0 <= Start <= End <= len(Chunk)
}

// Frame is the frame's bytes.
func (b *Buf) Frame() []byte { return b.Chunk[b.Start:b.End:b.End] }

// Len is the frame's length in bytes.
func (b *Buf) Len() int { return b.End - b.Start }
