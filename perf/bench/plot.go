package main

import (
	"fmt"
	"html"
	"strings"
)

// Measures of the plot, in pixels.
const (
	plotWidth  = 920
	labelWidth = 150
	valueWidth = 240
	barHeight  = 14
	barPitch   = 20
	panelHead  = 34
	panelFoot  = 18
	titleSpace = 56
)

// plot draws a run as SVG: one panel a case, one bar a contestant, as long as
// its figure, with a line from the worst to the best round.
func plot(r *Run) string {
	var b strings.Builder
	height := titleSpace
	for i := range r.Cases {
		height += panelHeight(len(r.Cases[i].Results))
	}
	if r.Connections != nil {
		height += panelHeight(len(r.Connections.Results))
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	text(&b, 10, 22, "start", fmt.Sprintf("%s, %d cores, kernel %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel))
	text(&b, 10, 42, "start", fmt.Sprintf("%s: %s; others took up to %.0f%% of the CPUs",
		r.Command, r.extent(), 100*r.Foreign))
	if r.disturbed() {
		text(&b, plotWidth-10, 22, "end", "disturbed by other work: means nothing")
	}
	y := titleSpace
	for i := range r.Cases {
		drawCase(&b, &r.Cases[i], y)
		y += panelHeight(len(r.Cases[i].Results))
	}
	if r.Connections != nil {
		drawConnections(&b, r.Connections, y)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func panelHeight(bars int) int { return panelHead + barPitch*bars + panelFoot }

// bar is one contestant in a panel.
type bar struct {
	name   string
	notRun bool
	value  float64
	rounds []float64
	label  string
}

func drawCase(b *strings.Builder, c *CaseResult, y int) {
	var bars []bar
	for i := range c.Results {
		r := &c.Results[i]
		one := bar{name: r.Name, notRun: r.NotRun != "", value: r.Mpps, rounds: r.Rounds, label: fmt.Sprintf("%.2f Mpps, %.0f ns", r.Mpps, r.TotalNS)}
		if r.Delays != nil {
			one.label = fmt.Sprintf("p50 %.0f us, p99 %.0f us, loss %.1f%%", r.Delays.P50, r.Delays.P99, 100*r.Loss)
		} else if r.Ratio > 0 {
			one.label += fmt.Sprintf(", x %.2f", r.Ratio)
		}
		if r.GeneratorBound && r.Delays == nil {
			one.label += " (generator's limit)"
		}
		bars = append(bars, one)
	}
	scale := drawPanel(b, c.String(), bars, y)
	if c.Katran != nil {
		x := labelWidth + c.Katran.Mpps*scale
		fmt.Fprintf(b, `<path d="M%.1f %d V%d" stroke="#b03030" stroke-dasharray="4 3"/>`+"\n", x, y+panelHead-6, y+panelHead+len(bars)*barPitch)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="#b03030">Katran, assumed at %.2f of xdp-encap</text>`+"\n", x+4, y+panelHead-6, c.Katran.Share)
	}
}

func drawConnections(b *strings.Builder, c *Connections, y int) {
	var bars []bar
	for _, r := range c.Results {
		bars = append(bars, bar{name: r.Name, notRun: r.NotRun != "", value: r.PerSecond, rounds: r.Rounds,
			label: fmt.Sprintf("%.0f a second, %.0f us of CPU each", r.PerSecond, r.TotalUS)})
	}
	drawPanel(b, connectionsName, bars, y)
}

// drawPanel draws bars under a heading, and returns how many pixels one unit is.
func drawPanel(b *strings.Builder, heading string, bars []bar, y int) (scale float64) {
	text(b, 10, y+20, "start", heading)
	most := 0.0
	for _, one := range bars {
		for _, v := range append(one.rounds, one.value) {
			most = max(most, v)
		}
	}
	if most > 0 {
		scale = (plotWidth - labelWidth - valueWidth) / most
	}
	for i := range bars {
		drawBar(b, &bars[i], y+panelHead+i*barPitch, scale)
	}
	return scale
}

func drawBar(b *strings.Builder, r *bar, y int, scale float64) {
	text(b, labelWidth-8, y+barHeight-3, "end", r.name)
	if r.notRun {
		text(b, labelWidth, y+barHeight-3, "start", "not run")
		return
	}
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, r.value*scale, barHeight, colour(r.name))
	least, most := r.value, r.value
	for _, v := range r.rounds {
		least, most = min(least, v), max(most, v)
	}
	fmt.Fprintf(b, `<path d="M%.1f %d H%.1f" stroke="black"/>`+"\n", labelWidth+least*scale, y+barHeight/2, labelWidth+most*scale)
	fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", labelWidth+most*scale+6, y+barHeight-3, html.EscapeString(r.label))
}

func colour(name string) string {
	switch {
	case name == baseline, name == connBaseline:
		return "#888888"
	case strings.HasPrefix(name, "fairlead"):
		return "#2f6fb0"
	}
	return "#c9a36a"
}

func text(b *strings.Builder, x, y int, anchor, s string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}
