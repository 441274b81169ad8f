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
// its Mpps, with a line from the worst to the best round.
func plot(r *Run) string {
	var b strings.Builder
	height := titleSpace
	for i := range r.Cases {
		height += panelHeight(&r.Cases[i])
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
		y += panelHeight(&r.Cases[i])
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func panelHeight(c *CaseResult) int { return panelHead + barPitch*len(c.Results) + panelFoot }

func drawCase(b *strings.Builder, c *CaseResult, y int) {
	text(b, 10, y+20, "start", c.String())
	most := 0.0
	for _, r := range c.Results {
		for _, mpps := range append(r.Rounds, r.Mpps) {
			most = max(most, mpps)
		}
	}
	scale := 0.0
	if most > 0 {
		scale = (plotWidth - labelWidth - valueWidth) / most
	}
	for i := range c.Results {
		drawBar(b, &c.Results[i], y+panelHead+i*barPitch, scale)
	}
}

func drawBar(b *strings.Builder, r *Result, y int, scale float64) {
	text(b, labelWidth-8, y+barHeight-3, "end", r.Name)
	if r.NotRun != "" {
		text(b, labelWidth, y+barHeight-3, "start", "not run")
		return
	}
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, r.Mpps*scale, barHeight, colour(r.Name))
	least, most := r.Mpps, r.Mpps
	for _, mpps := range r.Rounds {
		least, most = min(least, mpps), max(most, mpps)
	}
	fmt.Fprintf(b, `<path d="M%.1f %d H%.1f" stroke="black"/>`+"\n", labelWidth+least*scale, y+barHeight/2, labelWidth+most*scale)
	label := fmt.Sprintf("%.2f Mpps, %.0f ns", r.Mpps, r.TotalNS)
	if r.Delays != nil {
		label = fmt.Sprintf("p50 %.0f us, p99 %.0f us, loss %.1f%%", r.Delays.P50, r.Delays.P99, 100*r.Loss)
	} else if r.Ratio > 0 {
		label += fmt.Sprintf(", x %.2f", r.Ratio)
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", labelWidth+most*scale+6, y+barHeight-3, html.EscapeString(label))
}

func colour(name string) string {
	switch {
	case name == baseline:
		return "#888888"
	case strings.HasPrefix(name, "fairlead"):
		return "#2f6fb0"
	}
	return "#c9a36a"
}

func text(b *strings.Builder, x, y int, anchor, s string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}
