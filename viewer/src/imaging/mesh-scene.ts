/** The 3D view: X_ITE with one mesh, a camera that starts in front of the patient, and a report of how it turns. */

import X3D from "x_ite";
import { type Sphere, sphereAround } from "./bounds";
import type { Vector } from "./geometry";
import { DIRECTIONS, type Direction, type Rotation, cameraRotation } from "./orientation";

/** Larger than any patient in millimetres: the camera never leaves the sensor that reports its orientation. */
const SENSOR_MM = 1e6;
const BACKGROUND: Vector = [0.027, 0.039, 0.043];
const FIELD_OF_VIEW = 0.5;
const OPTIONS = { ContextMenu: false, Notifications: false, SplashScreen: false, StraightenHorizon: false };

export class MeshScene {
  readonly element = X3D.createBrowser();
  readonly #browser: X3D.X3DBrowser = this.element.browser;
  readonly #closed = new AbortController();
  #sphere: Sphere = { center: [0, 0, 0], radius: 1 };

  /** @param onTurn called with the camera's orientation whenever it changes */
  constructor(private readonly onTurn: (camera: Rotation) => void) {
    for (const [name, value] of Object.entries(OPTIONS))
      this.#browser.setBrowserOption(name as keyof typeof OPTIONS, value);
    for (const name of ["mouseup", "touchend"])
      addEventListener(name, () => this.#stopSpinning(), { signal: this.#closed.signal });
  }

  async show(x3d: string): Promise<void> {
    const scene = await this.#browser.createX3DFromString(x3d);
    this.#sphere = sphereAround(x3d) ?? this.#sphere;
    this.#furnish(scene);
    await this.#browser.replaceWorld(scene);
  }

  /** Turns the camera, and moves it so that the whole mesh is seen. */
  lookFrom(direction: Direction): void {
    const viewpoint = this.#viewpoint(this.#browser.currentScene, direction);
    this.#browser.currentScene.rootNodes.push(viewpoint);
    viewpoint.set_bind = true;
  }

  close(): void {
    this.#closed.abort();
    this.element.remove();
    this.#browser.loseContext();
  }

  /** A model let go while it moves would turn for ever; X_ITE halts it when this option is set, whatever the value. */
  #stopSpinning(): void {
    this.#browser.setBrowserOption("StraightenHorizon", OPTIONS.StraightenHorizon);
  }

  /** Adds what the mesh's own file leaves to the viewer: the camera and its sensor, navigation and background. */
  #furnish(scene: X3D.X3DScene): void {
    scene.addComponent(this.#browser.getComponent("EnvironmentalSensor", 1));
    const navigation = scene.createNode("NavigationInfo");
    navigation.type = new X3D.MFString("EXAMINE");
    navigation.transitionType = new X3D.MFString("TELEPORT");
    const background = scene.createNode("Background");
    background.skyColor = new X3D.MFColor(new X3D.SFColor(...BACKGROUND));
    const sensor = scene.createNode("ProximitySensor");
    sensor.size = new X3D.SFVec3f(SENSOR_MM, SENSOR_MM, SENSOR_MM);
    sensor.addFieldCallback("turned", "orientation_changed", (value) => {
      const { x, y, z, angle } = value as X3D.SFRotation;
      this.onTurn({ axis: [x, y, z], angle });
    });
    // Of nodes that bind, the first of a kind is the one that counts.
    scene.rootNodes.unshift(navigation, background, sensor, this.#viewpoint(scene, DIRECTIONS[0] as Direction));
  }

  #viewpoint(scene: X3D.X3DScene, direction: Direction): X3D.ViewpointProxy {
    const { center, radius } = this.#sphere;
    const { axis, angle } = cameraRotation(direction);
    const distance = radius / Math.sin(FIELD_OF_VIEW / 2);
    const at = center.map((middle, along) => middle + distance * (direction.normal[along] as number));
    const viewpoint = scene.createNode("Viewpoint");
    viewpoint.position = new X3D.SFVec3f(...(at as [number, number, number]));
    viewpoint.orientation = new X3D.SFRotation(...axis, angle);
    viewpoint.centerOfRotation = new X3D.SFVec3f(...center);
    viewpoint.fieldOfView = FIELD_OF_VIEW;
    return viewpoint;
  }
}
