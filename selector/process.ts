import type { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { SelectorAgent, type AgentComponents, type AgentSettings, type NodeView } from './agent.ts';
import { Codec } from './api/codec.ts';
import { SelectorServer } from './api/server.ts';
import { GrpcTransport } from './api/transport.ts';
import type { Message, Transport } from './overlay/messages.ts';

/** What a {@link SelectorProcess} stands on. */
export interface ProcessParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly clientCredentials: ChannelCredentials;
  readonly serverCredentials: ServerCredentials;
}

/** What one selector of the process is made of. */
export interface MemberParts {
  readonly components: Omit<AgentComponents, 'clock' | 'logger' | 'transport'>;
  readonly settings: AgentSettings;
  readonly view: NodeView;
  /** Where to listen, `host:port`; port 0 chooses one. */
  readonly listen: string;
  /** Where peers reach it; its port 0 stands for the one listened on. */
  readonly advertise: string;
}

/** Goodbyes have to leave before the streams are closed. */
const farewellMs = 100;

/**
 * The selectors of one process: usually one, or as many as it hosts nodes that have no machine of their own. Each has
 * its own port, account and place in the overlay; they share the gRPC server, the streams to peers outside, and hand
 * each other messages as they are.
 */
export class SelectorProcess implements Transport {
  private readonly parts: ProcessParts;
  private readonly outside: GrpcTransport;
  private readonly server: SelectorServer;
  private readonly members = new Map<string, SelectorAgent>();

  constructor(parts: ProcessParts) {
    this.parts = parts;
    const codec = new Codec();
    this.outside = new GrpcTransport(parts.clientCredentials, codec, parts.clock);
    this.server = new SelectorServer({ codec, logger: parts.logger });
  }

  /** Addresses of the selectors here. */
  get addresses(): readonly string[] {
    return [...this.members.keys()];
  }

  /** Rebuilds a selector's claims, then lets it listen and join. @returns it and its port. */
  async add(member: MemberParts, peers: readonly string[]): Promise<{ agent: SelectorAgent; port: number }> {
    const { clock, logger, serverCredentials } = this.parts;
    const components = { ...member.components, clock, logger, transport: this };
    const agent = new SelectorAgent(components, member.settings, member.view);
    await agent.open();
    const port = await this.server.listen(agent.service, member.listen, serverCredentials);
    const { advertise } = member;
    const address = advertise.endsWith(':0') ? `${advertise.slice(0, -2)}:${port}` : advertise;
    this.members.set(address, agent);
    agent.start(address, peers);
    return { agent, port };
  }

  /** Ends one selector in good order. */
  remove(agent: SelectorAgent): void {
    agent.stop();
    this.members.delete(agent.address);
    this.server.forget(agent.service);
  }

  send(to: string, message: Message): void {
    const member = this.members.get(to);
    if (member === undefined) this.outside.send(to, message);
    // Not at once: a message never arrives before its sender has ended its turn.
    else setImmediate(() => member.service.receive(message));
  }

  /** Says goodbye to peers and ends everything. */
  async stop(): Promise<void> {
    for (const agent of this.members.values()) agent.stop();
    await this.parts.clock.sleep(farewellMs);
    this.outside.stop();
    this.server.stop();
  }
}
